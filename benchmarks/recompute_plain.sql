-- The demo's marts as one would write them by hand: one connection, one statement after the other, no dbt, no second run that goes on from here.
-- `archived.bookings` and `archived.cart_events` are views over the archive's Parquet files. Events that can't be used are left out, without a word of why.

-- Each event is decoded once. (With the conditions below in the same statement DuckDB would decode for each of them: twice as slow.)
create temp table said_of_flights as
with
parsed as (
    select
        *,
        json_type(json, [
            'event_id', 'event_type', 'schema_version', 'occurred_at', 'sequence', 'flight_id', 'booking_id', 'seat', 'from_seat',
            'to_seat', 'passenger_id', 'price', '$.fare.amount_cents', 'reason', 'carrier', 'flight_number', 'origin', 'destination',
            'departs_at', 'capacity'
        ]) as types,
        json_extract_string(json, [
            'event_id', 'event_type', 'schema_version', 'occurred_at', 'sequence', 'flight_id', 'booking_id', 'seat', 'from_seat',
            'to_seat', 'passenger_id', 'price', '$.fare.amount_cents', 'reason', 'carrier', 'flight_number', 'origin', 'destination',
            'departs_at', 'capacity', '$.fare.currency'
        ]) as texts
    from (
        select *, try_cast(case when strlen(decode(value, 'ignore')) = octet_length(value) then decode(value, 'ignore') end as json) as json
        from archived.bookings
    )
)

select
    commit_version, source_id, source_partition, source_offset,
    case when types[1] = 'VARCHAR' then texts[1] end as event_id,
    case when types[2] = 'VARCHAR' then texts[2] end as event_type,
    case when types[3] = 'UBIGINT' then try_cast(texts[3] as bigint) end as schema_version,
    case when texts[4] similar to '.*T.*(Z|[+-]\d\d:\d\d)' then try_cast(texts[4] as timestamptz) end as occurred_at,
    case when types[5] = 'UBIGINT' then try_cast(texts[5] as bigint) end as sequence,
    case when types[6] = 'VARCHAR' then texts[6] end as flight_id,
    case when types[7] = 'VARCHAR' then texts[7] end as booking_id,
    case when types[8] = 'VARCHAR' then texts[8] end as seat,
    case when types[9] = 'VARCHAR' then texts[9] end as from_seat,
    case when types[10] = 'VARCHAR' then texts[10] end as to_seat,
    case when types[11] = 'VARCHAR' then texts[11] end as passenger_id,
    case schema_version
        when 1 then case when types[12] in ('UBIGINT', 'DOUBLE') then try_cast(texts[12] as decimal(18, 2)) end
        when 2 then case when types[13] = 'UBIGINT' and texts[21] = 'USD' then cast(try_cast(texts[13] as bigint) * 0.01 as decimal(18, 2)) end
    end as fare_usd,
    case when types[14] = 'VARCHAR' then texts[14] end as reason,
    case when types[15] = 'VARCHAR' then texts[15] end as carrier,
    case when types[16] = 'UBIGINT' then try_cast(texts[16] as bigint) end as flight_number,
    case when types[17] = 'VARCHAR' then texts[17] end as origin,
    case when types[18] = 'VARCHAR' then texts[18] end as destination,
    case when texts[19] similar to '.*T.*(Z|[+-]\d\d:\d\d)' then try_cast(texts[19] as timestamptz) end as departs_at,
    case when right(texts[19], 1) = 'Z' then 'Z' else right(texts[19], 6) end as departs_at_utc_offset,
    case when types[20] = 'UBIGINT' then try_cast(texts[20] as bigint) end as capacity
from parsed;

-- what the booking service said of flights and bookings, each event once, the first that came
create temp table booking_events as
select * exclude (commit_version, source_id, source_partition, source_offset)
from said_of_flights
where
    schema_version in (1, 2)
    and event_id is not null
    and occurred_at is not null
    and sequence >= 1
    and flight_id is not null
    and case event_type
        when 'flight_scheduled' then
            carrier is not null and flight_number is not null and origin is not null and destination is not null
            and departs_at is not null and capacity is not null
        when 'flight_rescheduled' then departs_at is not null and reason is not null
        when 'booking_confirmed' then
            booking_id is not null and passenger_id is not null and seat is not null and fare_usd is not null
        when 'seat_changed' then booking_id is not null and from_seat is not null and to_seat is not null
        when 'booking_cancelled' then booking_id is not null and seat is not null and reason is not null
        when 'checked_in' then booking_id is not null and seat is not null
        else false
    end
qualify row_number() over (
    partition by event_id order by commit_version, source_id, source_partition, source_offset
) = 1;

create table booking_history as
with
states as (
    select
        booking_id, flight_id, event_id, event_type, sequence, occurred_at, from_seat, reason,
        case when event_type = 'seat_changed' then to_seat else seat end as seat,
        row_number() over booking as state_number,
        lag(case when event_type = 'seat_changed' then to_seat else seat end) over booking as previous_seat,
        lead(occurred_at) over booking as valid_until_at,
        lead(event_id) over booking is null as is_current,
        count(*) filter (where event_type = 'checked_in') over booking > 0 as has_checked_in
    from booking_events
    where booking_id is not null
    window booking as (partition by booking_id order by sequence, event_id)
)

select
    booking_id, state_number, flight_id, event_id, event_type, sequence,
    case
        when event_type = 'booking_cancelled' then 'cancelled'
        when has_checked_in then 'checked_in'
        else 'confirmed'
    end as status,
    seat,
    reason as cancellation_reason,
    occurred_at as valid_from_at,
    valid_until_at,
    is_current,
    case when state_number = 1 then event_type <> 'booking_confirmed' else coalesce(from_seat, seat) <> previous_seat end as is_after_a_gap
from states;

create table main.bookings as
with
confirmations as (
    select booking_id, passenger_id, fare_usd, occurred_at as confirmed_at
    from booking_events
    where event_type = 'booking_confirmed'
    qualify row_number() over (partition by booking_id order by sequence, event_id) = 1
),

ways as (
    select
        booking_id,
        count(*) filter (where event_type = 'seat_changed') as seat_changes,
        min(valid_from_at) filter (where event_type = 'checked_in') as checked_in_at,
        max(valid_from_at) filter (where event_type = 'booking_cancelled') as cancelled_at,
        bool_or(is_after_a_gap) as has_missing_events
    from booking_history
    group by booking_id
)

select
    last.booking_id, last.flight_id, passenger_id, last.status, last.seat, fare_usd, confirmed_at, checked_in_at, cancelled_at,
    last.cancellation_reason, seat_changes, last.sequence as last_sequence, last.valid_from_at as last_changed_at, has_missing_events
from booking_history as last
inner join ways using (booking_id)
left join confirmations using (booking_id)
where last.is_current;

create table seat_availability as
with
schedules as (
    select * from booking_events
    where event_type = 'flight_scheduled'
    qualify row_number() over (partition by flight_id order by sequence, event_id) = 1
),

times as (
    select flight_id, departs_at, departs_at_utc_offset
    from booking_events
    where event_type in ('flight_scheduled', 'flight_rescheduled')
    qualify row_number() over (partition by flight_id order by sequence desc, event_id desc) = 1
),

seat_events as (
    select
        flight_id, booking_id, sequence, event_id, event_type <> 'booking_cancelled' as is_taken,
        case when event_type = 'seat_changed' then to_seat else seat end as seat
    from booking_events
    where booking_id is not null
    union all
    select flight_id, booking_id, sequence, event_id, false, from_seat
    from booking_events
    where event_type = 'seat_changed' and from_seat <> to_seat
),

seats as (
    select * from seat_events
    qualify row_number() over (partition by flight_id, seat order by sequence desc, event_id desc) = 1
),

taken as (
    select
        seats.flight_id,
        count(*) as booked_seats,
        count(*) filter (where status = 'checked_in') as checked_in_seats,
        list(seat order by try_cast(regexp_extract(seat, '^\d+') as integer), seat) as taken_seats
    from seats
    inner join main.bookings as booked using (booking_id, flight_id, seat)
    where is_taken and status <> 'cancelled'
    group by seats.flight_id
)

select
    schedules.flight_id, carrier, flight_number, origin, destination, times.departs_at, times.departs_at_utc_offset,
    cast(coalesce(
        timezone(case when origin in ('EWR', 'JFK', 'LGA') then 'America/New_York' end, times.departs_at),
        -- elsewhere the offset that was written has to do
        timezone('UTC', times.departs_at) + case
            when times.departs_at_utc_offset = 'Z' then interval 0 minute
            else to_minutes(
                (left(times.departs_at_utc_offset, 1) || '1')::integer
                * (60 * substr(times.departs_at_utc_offset, 2, 2)::integer + right(times.departs_at_utc_offset, 2)::integer)
            )
        end
    ) as date) as departure_date,
    capacity as capacity_seats,
    coalesce(booked_seats, 0) as booked_seats,
    coalesce(checked_in_seats, 0) as checked_in_seats,
    capacity - coalesce(booked_seats, 0) as available_seats,
    coalesce(taken_seats, []) as taken_seats
from schedules
inner join times using (flight_id)
left join taken using (flight_id);

create table flight_load_daily as
select
    departure_date, carrier, origin,
    count(*) as flights,
    cast(sum(capacity_seats) as bigint) as capacity_seats,
    cast(sum(booked_seats) as bigint) as booked_seats,
    cast(sum(checked_in_seats) as bigint) as checked_in_seats,
    count(*) filter (where available_seats = 0) as full_flights,
    cast(sum(booked_seats) / nullif(sum(capacity_seats), 0) as decimal(9, 4)) as load_factor
from seat_availability
group by departure_date, carrier, origin;

create temp table said_of_carts as
with
parsed as (
    select
        *,
        json_type(json, [
            'event_id', 'event_type', 'schema_version', 'occurred_at', 'cart_id', 'cart_version', 'customer_id', 'product_id',
            'quantity', 'unit_price', 'unit_price_cents', 'total', 'total_cents'
        ]) as types,
        json_extract_string(json, [
            'event_id', 'event_type', 'schema_version', 'occurred_at', 'cart_id', 'cart_version', 'customer_id', 'product_id',
            'quantity', 'unit_price', 'unit_price_cents', 'total', 'total_cents'
        ]) as texts
    from (
        select *, try_cast(case when strlen(decode(value, 'ignore')) = octet_length(value) then decode(value, 'ignore') end as json) as json
        from archived.cart_events
    )
)

select
    commit_version, source_id, source_partition, source_offset, ingested_at,
    case when types[1] = 'VARCHAR' then texts[1] end as event_id,
    case when types[2] = 'VARCHAR' then texts[2] end as event_type,
    case when types[3] = 'UBIGINT' then try_cast(texts[3] as bigint) end as schema_version,
    case when texts[4] similar to '.*T.*(Z|[+-]\d\d:\d\d)' then try_cast(texts[4] as timestamptz) end as occurred_at,
    case when right(texts[4], 1) = 'Z' then 'Z' else right(texts[4], 6) end as occurred_at_utc_offset,
    case when types[5] = 'VARCHAR' then texts[5] end as cart_id,
    case when types[6] = 'UBIGINT' then try_cast(texts[6] as bigint) end as cart_version,
    case when types[7] = 'VARCHAR' then texts[7] end as customer_id,
    case when types[8] = 'VARCHAR' then texts[8] end as product_id,
    case when types[9] = 'UBIGINT' then try_cast(texts[9] as bigint) end as quantity,
    case schema_version
        when 1 then case when types[10] in ('UBIGINT', 'DOUBLE') then try_cast(texts[10] as decimal(18, 2)) end
        when 2 then case when types[11] = 'UBIGINT' then cast(try_cast(texts[11] as bigint) * 0.01 as decimal(18, 2)) end
    end as unit_price_usd,
    case schema_version
        when 1 then case when types[12] in ('UBIGINT', 'DOUBLE') then try_cast(texts[12] as decimal(18, 2)) end
        when 2 then case when types[13] = 'UBIGINT' then cast(try_cast(texts[13] as bigint) * 0.01 as decimal(18, 2)) end
    end as total_usd
from parsed;

create table cart_events as
select * exclude (source_id, source_partition, source_offset)
from said_of_carts
where
    schema_version in (1, 2)
    and event_id is not null
    and occurred_at is not null
    and cart_id is not null
    and cart_version >= 1
    and case event_type
        when 'cart_opened' then customer_id is not null
        when 'item_added' then product_id is not null and quantity between 1 and 1000000 and unit_price_usd is not null
        when 'quantity_changed' then product_id is not null and quantity between 1 and 1000000
        when 'item_removed' then product_id is not null
        when 'cart_checked_out' then total_usd is not null
        when 'cart_abandoned' then true
        else false
    end
qualify row_number() over (
    partition by event_id order by commit_version, source_id, source_partition, source_offset
) = 1;

create table cart_items as
with
numbered as (
    select *, row_number() over (partition by cart_id, product_id order by cart_version, event_id) as event_number
    from cart_events
    where event_type in ('item_added', 'quantity_changed', 'item_removed')
),

resets as (
    select cart_id, product_id, max(event_number) as reset_number
    from numbered
    where event_type in ('quantity_changed', 'item_removed')
    group by cart_id, product_id
),

lines as (
    select
        cart_id, product_id,
        cast(sum(case when event_type = 'item_removed' or event_number < reset_number then 0 else quantity end) as bigint) as quantity,
        arg_max(unit_price_usd, event_number) filter (where event_type = 'item_added') as unit_price_usd,
        min(occurred_at) filter (where event_type = 'item_added') as first_added_at
    from numbered
    left join resets using (cart_id, product_id)
    group by cart_id, product_id
)

select
    cart_id, product_id, quantity, unit_price_usd, cast(quantity * unit_price_usd as decimal(38, 2)) as line_value_usd, first_added_at
from lines
where quantity > 0;

create table carts as
with
numbered as (
    select *, row_number() over (partition by cart_id order by cart_version, event_id) as event_number from cart_events
),

lives as (
    select
        cart_id,
        min(customer_id) filter (where event_type = 'cart_opened') as customer_id,
        arg_max(event_type, event_number) as last_event_type,
        arg_min(occurred_at, event_number) as started_at,
        arg_max(occurred_at, event_number) as last_changed_at,
        arg_max(occurred_at, event_number) filter (where event_type = 'cart_checked_out') as checked_out_at,
        arg_max(total_usd, event_number) filter (where event_type = 'cart_checked_out') as checked_out_total_usd,
        max(cart_version) as last_version,
        count(distinct cart_version) as known_versions
    from numbered
    group by cart_id
),

contents as (
    select
        cart_id, count(*) as products, cast(sum(quantity) as bigint) as units, cast(sum(line_value_usd) as decimal(38, 2)) as value_usd
    from cart_items
    group by cart_id
)

select
    cart_id, customer_id,
    case last_event_type when 'cart_checked_out' then 'checked_out' when 'cart_abandoned' then 'abandoned' else 'open' end as status,
    started_at, cast(started_at as date) as started_date, last_changed_at,
    case when last_event_type = 'cart_checked_out' then checked_out_at end as checked_out_at,
    coalesce(products, 0) as products,
    coalesce(units, 0) as units,
    coalesce(value_usd, 0) as value_usd,
    checked_out_total_usd, last_version,
    known_versions < last_version as has_missing_events
from lives
left join contents using (cart_id);

create table cart_abandonment_daily as
select
    started_date,
    count(*) as carts,
    count(*) filter (where status = 'checked_out') as checked_out_carts,
    count(*) filter (where status = 'abandoned') as abandoned_carts,
    count(*) filter (where status = 'open') as open_carts,
    cast(coalesce(sum(value_usd) filter (where status = 'abandoned'), 0) as decimal(38, 2)) as abandoned_value_usd,
    cast(
        count(*) filter (where status = 'abandoned') / nullif(count(*) filter (where status <> 'open'), 0) as decimal(5, 4)
    ) as abandonment_rate
from carts
group by started_date;

create table product_demand_daily as
with
added as (
    select
        cast(occurred_at as date) as demand_date, product_id, count(*) as additions, count(distinct cart_id) as carts_added_to,
        sum(quantity) as units_added
    from cart_events
    where event_type = 'item_added'
    group by all
),

ordered as (
    select
        cast(checked_out_at as date) as demand_date, product_id, count(*) as orders, sum(quantity) as units_ordered,
        sum(line_value_usd) as ordered_value_usd
    from cart_items
    inner join carts using (cart_id)
    where status = 'checked_out'
    group by all
)

select
    demand_date, product_id,
    coalesce(additions, 0) as additions,
    coalesce(carts_added_to, 0) as carts_added_to,
    cast(coalesce(units_added, 0) as bigint) as units_added,
    coalesce(orders, 0) as orders,
    cast(coalesce(units_ordered, 0) as bigint) as units_ordered,
    cast(coalesce(ordered_value_usd, 0) as decimal(38, 2)) as ordered_value_usd
from added
full outer join ordered using (demand_date, product_id);
