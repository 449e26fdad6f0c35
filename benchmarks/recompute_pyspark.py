"""The demo's marts by PySpark over the archive's Parquet files: `python recompute_pyspark.py PINNED.json FOLDER`, where PySpark is installed.

`PINNED.json` maps each stream to its files. Each mart becomes a folder of Parquet files, as a Spark job leaves it. Only the standard library
and PySpark are needed. What doesn't live here: the comparison (`recompute_figures`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession  # type: ignore[import-not-found] # in an environment of its own

SETTINGS = {
    "spark.master": "local[*]",
    "spark.driver.memory": os.environ.get("SPARK_MEMORY", "8g"),
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",  # with it each text that is no number costs an exception
    "spark.sql.shuffle.partitions": str(4 * (os.cpu_count() or 1)),  # 200 are for clusters
}

_FIELDS = {
    "bookings": """
        event_id string, event_type string, schema_version bigint, occurred_at string, sequence bigint, flight_id string,
        booking_id string, seat string, from_seat string, to_seat string, passenger_id string, price double,
        fare struct<amount_cents: bigint, currency: string>, reason string, carrier string, flight_number bigint, origin string,
        destination string, departs_at string, capacity bigint""",
    "cart_events": """
        event_id string, event_type string, schema_version bigint, occurred_at string, cart_id string, cart_version bigint,
        customer_id string, product_id string, quantity bigint, unit_price double, unit_price_cents bigint, total double,
        total_cents bigint""",
}


def _text(*names: str) -> str:
    # from_json gives a number, a list, … as text too, where it has been told to expect text
    return " and ".join(
        f"{name} is not null and left({name}, 1) not in ('[', '{{') and {name} not in ('true', 'false')"
        f" and cast({name} as bigint) is null"
        for name in names
    )


def _time(name: str) -> str:
    return rf"if({name} rlike r'T.*(Z|[+-]\d\d:\d\d)$', cast({name} as timestamp), null)"


def _offset(name: str) -> str:
    return f"if(right({name}, 1) = 'Z', 'Z', right({name}, 6))"


def _decoded(stream: str) -> str:
    """What has been said, as columns. A line of two objects is none; Spark would take the first, and a list's only one."""
    return f"""
        select event.*, ingested_at, commit_version, source_id, source_partition, source_offset,
            is_valid_utf8(text) and not endswith(text, ']') and position('}}{{"', text) = 0 as is_event
        from (select *, from_json(text, '{_FIELDS[stream]}') as event from (select *, cast(value as string) as text from archived_{stream}))"""


FIRST_ARCHIVED = "row_number() over (partition by event_id order by commit_version, source_id, source_partition, source_offset)"

BOOKING_EVENTS = f"""
    with typed as (
        select * except (occurred_at, departs_at),
            {_time("occurred_at")} as occurred_at,
            {_time("departs_at")} as departs_at,
            {_offset("departs_at")} as departs_at_utc_offset,
            case schema_version when 1 then cast(price as decimal(18, 2))
                when 2 then if(fare.currency = 'USD', cast(fare.amount_cents * 0.01 as decimal(18, 2)), null) end as fare_usd
        from decoded_bookings
        where is_event
    ),
    usable as (
        select *, {FIRST_ARCHIVED} as place from typed
        where schema_version in (1, 2) and occurred_at is not null and sequence >= 1 and {_text("event_id", "flight_id")}
            and case event_type
                when 'flight_scheduled' then {_text("carrier", "origin", "destination")}
                    and flight_number is not null and departs_at is not null and capacity is not null
                when 'flight_rescheduled' then departs_at is not null and {_text("reason")}
                when 'booking_confirmed' then {_text("booking_id", "passenger_id", "seat")} and fare_usd is not null
                when 'seat_changed' then {_text("booking_id", "from_seat", "to_seat")}
                when 'booking_cancelled' then {_text("booking_id", "seat", "reason")}
                when 'checked_in' then {_text("booking_id", "seat")}
                else false end
    )
    select * except (place, is_event, price, fare, ingested_at, commit_version, source_id, source_partition, source_offset)
    from usable where place = 1"""

CART_EVENTS = f"""
    with typed as (
        select * except (occurred_at),
            {_time("occurred_at")} as occurred_at,
            {_offset("occurred_at")} as occurred_at_utc_offset,
            case schema_version when 1 then cast(unit_price as decimal(18, 2))
                when 2 then cast(unit_price_cents * 0.01 as decimal(18, 2)) end as unit_price_usd,
            case schema_version when 1 then cast(total as decimal(18, 2))
                when 2 then cast(total_cents * 0.01 as decimal(18, 2)) end as total_usd
        from decoded_cart_events
        where is_event
    ),
    usable as (
        select *, {FIRST_ARCHIVED} as place from typed
        where schema_version in (1, 2) and occurred_at is not null and cart_version >= 1 and {_text("event_id", "cart_id")}
            and case event_type
                when 'cart_opened' then {_text("customer_id")}
                when 'item_added' then {_text("product_id")} and quantity between 1 and 1000000 and unit_price_usd is not null
                when 'quantity_changed' then {_text("product_id")} and quantity between 1 and 1000000
                when 'item_removed' then {_text("product_id")}
                when 'cart_checked_out' then total_usd is not null
                when 'cart_abandoned' then true
                else false end
    )
    select * except (place, is_event, unit_price, unit_price_cents, total, total_cents, source_id, source_partition, source_offset)
    from usable where place = 1"""

MARTS = {
    "booking_history": """
        with states as (
            select *,
                row_number() over booking as state_number,
                lag(seat_then) over booking as previous_seat,
                lead(occurred_at) over booking as valid_until_at,
                lead(event_id) over booking is null as is_current,
                count_if(event_type = 'checked_in') over booking > 0 as has_checked_in
            from (select *, if(event_type = 'seat_changed', to_seat, seat) as seat_then from booking_events where booking_id is not null)
            window booking as (partition by booking_id order by sequence, event_id)
        )
        select booking_id, state_number, flight_id, event_id, event_type, sequence,
            case when event_type = 'booking_cancelled' then 'cancelled' when has_checked_in then 'checked_in' else 'confirmed' end as status,
            seat_then as seat, reason as cancellation_reason, occurred_at as valid_from_at, valid_until_at, is_current,
            case when state_number = 1 then event_type <> 'booking_confirmed'
                else coalesce(from_seat, seat_then) <> previous_seat end as is_after_a_gap
        from states""",
    "bookings": """
        with confirmations as (
            select booking_id, passenger_id, fare_usd, occurred_at as confirmed_at,
                row_number() over (partition by booking_id order by sequence, event_id) as place
            from booking_events where event_type = 'booking_confirmed'
        ),
        ways as (
            select booking_id,
                count_if(event_type = 'seat_changed') as seat_changes,
                min(valid_from_at) filter (where event_type = 'checked_in') as checked_in_at,
                max(valid_from_at) filter (where event_type = 'booking_cancelled') as cancelled_at,
                bool_or(is_after_a_gap) as has_missing_events
            from booking_history group by booking_id
        )
        select last.booking_id, last.flight_id, passenger_id, last.status, last.seat, fare_usd, confirmed_at, checked_in_at, cancelled_at,
            last.cancellation_reason, seat_changes, last.sequence as last_sequence, last.valid_from_at as last_changed_at,
            has_missing_events
        from booking_history as last
        join ways on last.booking_id = ways.booking_id
        left join confirmations on last.booking_id = confirmations.booking_id and place = 1
        where last.is_current""",
    "seat_availability": r"""
        with schedules as (
            select * from (
                select *, row_number() over (partition by flight_id order by sequence, event_id) as place
                from booking_events where event_type = 'flight_scheduled'
            ) where place = 1
        ),
        times as (
            select * from (
                select flight_id, departs_at, departs_at_utc_offset,
                    row_number() over (partition by flight_id order by sequence desc, event_id desc) as place
                from booking_events where event_type in ('flight_scheduled', 'flight_rescheduled')
            ) where place = 1
        ),
        seat_events as (
            select flight_id, booking_id, sequence, event_id, event_type <> 'booking_cancelled' as is_taken,
                if(event_type = 'seat_changed', to_seat, seat) as seat
            from booking_events where booking_id is not null
            union all
            select flight_id, booking_id, sequence, event_id, false, from_seat
            from booking_events where event_type = 'seat_changed' and from_seat <> to_seat
        ),
        seats as (
            select * from (
                select *, row_number() over (partition by flight_id, seat order by sequence desc, event_id desc) as place from seat_events
            ) where place = 1
        ),
        taken as (
            select seats.flight_id, count(*) as booked_seats, count_if(status = 'checked_in') as checked_in_seats,
                transform(array_sort(collect_list(struct(cast(regexp_extract(seats.seat, '^\\d+', 0) as int) as row, seats.seat as seat))), s -> s.seat)
                    as taken_seats
            from seats
            join bookings as booked
                on seats.booking_id = booked.booking_id and seats.flight_id = booked.flight_id and seats.seat = booked.seat
            where is_taken and status <> 'cancelled'
            group by seats.flight_id
        )
        select schedules.flight_id, carrier, flight_number, origin, destination, times.departs_at, times.departs_at_utc_offset,
            cast(if(origin in ('EWR', 'JFK', 'LGA'), from_utc_timestamp(times.departs_at, 'America/New_York'),
                from_utc_timestamp(times.departs_at, times.departs_at_utc_offset)) as date) as departure_date,
            capacity as capacity_seats, coalesce(booked_seats, 0) as booked_seats, coalesce(checked_in_seats, 0) as checked_in_seats,
            capacity - coalesce(booked_seats, 0) as available_seats, coalesce(taken_seats, array()) as taken_seats
        from schedules
        join times on schedules.flight_id = times.flight_id
        left join taken on schedules.flight_id = taken.flight_id""",
    "flight_load_daily": """
        select departure_date, carrier, origin, count(*) as flights, sum(capacity_seats) as capacity_seats,
            sum(booked_seats) as booked_seats, sum(checked_in_seats) as checked_in_seats, count_if(available_seats = 0) as full_flights,
            cast(sum(booked_seats) / nullif(sum(capacity_seats), 0) as decimal(9, 4)) as load_factor
        from seat_availability group by departure_date, carrier, origin""",
    "cart_items": """
        with numbered as (
            select *, row_number() over (partition by cart_id, product_id order by cart_version, event_id) as event_number
            from cart_events where event_type in ('item_added', 'quantity_changed', 'item_removed')
        ),
        resets as (
            select cart_id, product_id, max(event_number) as reset_number
            from numbered where event_type in ('quantity_changed', 'item_removed') group by cart_id, product_id
        ),
        lines as (
            select numbered.cart_id, numbered.product_id,
                sum(case when event_type = 'item_removed' or event_number < reset_number then 0 else quantity end) as quantity,
                max_by(unit_price_usd, event_number) filter (where event_type = 'item_added') as unit_price_usd,
                min(occurred_at) filter (where event_type = 'item_added') as first_added_at
            from numbered
            left join resets on numbered.cart_id = resets.cart_id and numbered.product_id = resets.product_id
            group by numbered.cart_id, numbered.product_id
        )
        select cart_id, product_id, quantity, unit_price_usd, cast(quantity * unit_price_usd as decimal(38, 2)) as line_value_usd, first_added_at
        from lines where quantity > 0""",
    "carts": """
        with numbered as (
            select *, row_number() over (partition by cart_id order by cart_version, event_id) as event_number from cart_events
        ),
        lives as (
            select cart_id,
                min(customer_id) filter (where event_type = 'cart_opened') as customer_id,
                max_by(event_type, event_number) as last_event_type,
                min_by(occurred_at, event_number) as started_at,
                max_by(occurred_at, event_number) as last_changed_at,
                max_by(occurred_at, event_number) filter (where event_type = 'cart_checked_out') as checked_out_at,
                max_by(total_usd, event_number) filter (where event_type = 'cart_checked_out') as checked_out_total_usd,
                max(cart_version) as last_version,
                count(distinct cart_version) as known_versions
            from numbered group by cart_id
        ),
        contents as (
            select cart_id, count(*) as products, sum(quantity) as units, cast(sum(line_value_usd) as decimal(38, 2)) as value_usd
            from cart_items group by cart_id
        )
        select lives.cart_id, customer_id,
            case last_event_type when 'cart_checked_out' then 'checked_out' when 'cart_abandoned' then 'abandoned' else 'open' end as status,
            started_at, cast(started_at as date) as started_date, last_changed_at, if(last_event_type = 'cart_checked_out', checked_out_at, null) as checked_out_at,
            coalesce(products, 0) as products, coalesce(units, 0) as units, coalesce(value_usd, 0) as value_usd,
            checked_out_total_usd, last_version, known_versions < last_version as has_missing_events
        from lives left join contents on lives.cart_id = contents.cart_id""",
    "cart_abandonment_daily": """
        select started_date, count(*) as carts,
            count_if(status = 'checked_out') as checked_out_carts, count_if(status = 'abandoned') as abandoned_carts,
            count_if(status = 'open') as open_carts,
            cast(coalesce(sum(value_usd) filter (where status = 'abandoned'), 0) as decimal(38, 2)) as abandoned_value_usd,
            cast(count_if(status = 'abandoned') / nullif(count_if(status <> 'open'), 0) as decimal(5, 4)) as abandonment_rate
        from carts group by started_date""",
    "product_demand_daily": """
        with added as (
            select cast(occurred_at as date) as demand_date, product_id, count(*) as additions,
                count(distinct cart_id) as carts_added_to, sum(quantity) as units_added
            from cart_events where event_type = 'item_added' group by all
        ),
        ordered as (
            select cast(checked_out_at as date) as demand_date, product_id, count(*) as orders, sum(quantity) as units_ordered,
                sum(line_value_usd) as ordered_value_usd
            from cart_items join carts on cart_items.cart_id = carts.cart_id where status = 'checked_out' group by all
        )
        select demand_date, product_id, coalesce(additions, 0) as additions, coalesce(carts_added_to, 0) as carts_added_to,
            coalesce(units_added, 0) as units_added, coalesce(orders, 0) as orders, coalesce(units_ordered, 0) as units_ordered,
            cast(coalesce(ordered_value_usd, 0) as decimal(38, 2)) as ordered_value_usd
        from added full outer join ordered using (demand_date, product_id)""",
}


def main() -> None:
    """Writes the marts; prints how many seconds each took, the start of Spark included."""
    files, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    seconds = {}
    started = time.monotonic()
    builder = SparkSession.builder
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.config("spark.local.dir", str(folder / "spills")).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for stream, paths in files.items():
        spark.read.parquet(*paths).createOrReplaceTempView(f"archived_{stream}")
    now = time.monotonic()
    seconds["start"], started = now - started, now
    queries = {
        # Decoded once: a condition in the same query would let Spark decode for it again.
        "decoded_bookings": _decoded("bookings"),
        "booking_events": BOOKING_EVENTS,
        "decoded_cart_events": _decoded("cart_events"),
        "cart_events": CART_EVENTS,
        **MARTS,
    }
    for name, query in queries.items():
        target = str(folder / name)
        spark.sql(query).write.parquet(target)
        spark.read.parquet(target).createOrReplaceTempView(name)
        now = time.monotonic()
        seconds[name], started = now - started, now
    spark.stop()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
