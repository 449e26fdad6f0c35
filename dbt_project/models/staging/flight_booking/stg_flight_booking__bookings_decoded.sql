{{ config(materialized='incremental', meta={'level': 'event'}) }}

{#- What an event of the flight booking service may say; demo/EVENTS.md has the words. -#}
{% set on_flights = ['flight_scheduled', 'flight_rescheduled'] %}
{% set on_bookings = ['booking_confirmed', 'seat_changed', 'booking_cancelled', 'checked_in'] %}
{% set fields = [
    {'name': 'event_id', 'type': 'string', 'required_by': 'all'},
    {'name': 'event_type', 'type': 'string', 'required_by': 'all'},
    {'name': 'schema_version', 'type': 'integer', 'required_by': 'all'},
    {'name': 'occurred_at', 'type': 'timestamp', 'required_by': 'all'},
    {'name': 'sequence', 'type': 'integer', 'minimum': 1, 'required_by': 'all'},
    {'name': 'flight_id', 'type': 'string', 'required_by': on_flights + on_bookings, 'optional_for': ['command_refused']},
    {'name': 'booking_id', 'type': 'string', 'required_by': on_bookings, 'optional_for': ['command_refused']},
    {'name': 'carrier', 'type': 'string', 'required_by': ['flight_scheduled']},
    {'name': 'flight_number', 'type': 'integer', 'required_by': ['flight_scheduled']},
    {'name': 'origin', 'type': 'string', 'required_by': ['flight_scheduled']},
    {'name': 'destination', 'type': 'string', 'required_by': ['flight_scheduled']},
    {'name': 'departs_at', 'type': 'timestamp', 'required_by': on_flights},
    {'name': 'capacity', 'type': 'integer', 'minimum': 0, 'maximum': 10**4, 'required_by': ['flight_scheduled']},
    {'name': 'passenger_id', 'type': 'string', 'required_by': ['booking_confirmed']},
    {
        'name': 'seat', 'type': 'string', 'required_by': ['booking_confirmed', 'booking_cancelled', 'checked_in'],
        'optional_for': ['command_refused'],
    },
    {'name': 'from_seat', 'type': 'string', 'required_by': ['seat_changed']},
    {'name': 'to_seat', 'type': 'string', 'required_by': ['seat_changed']},
    {'name': 'fare_usd', 'path': 'price', 'type': 'amount', 'required_by': ['booking_confirmed'], 'schema_version': 1},
    {
        'name': 'fare_cents', 'path': 'fare.amount_cents', 'type': 'integer', 'maximum': 10**12,
        'required_by': ['booking_confirmed'], 'schema_version': 2,
    },
    {
        'name': 'fare_currency', 'path': 'fare.currency', 'type': 'string', 'one_of': ['USD'],
        'required_by': ['booking_confirmed'], 'schema_version': 2,
    },
    {'name': 'command', 'type': 'string', 'required_by': ['command_refused']},
    {'name': 'reason', 'type': 'string', 'required_by': ['flight_rescheduled', 'booking_cancelled', 'command_refused']},
] %}

with judged as (
    {{ judged_events(
        'bookings',
        fields,
        event_types=on_flights + on_bookings + ['command_refused'],
        schema_versions=[1, 2],
    ) }}
),

decoded as materialized (
    select
        source_id,
        source_partition,
        source_offset,
        commit_version,
        ingested_at,
        event_id,
        event_type,
        schema_version,
        occurred_at,
        occurred_at_utc_offset,
        sequence,
        flight_id,
        booking_id,
        passenger_id,
        -- where the passenger sits after the event; from_seat is where they sat before
        case when event_type = 'seat_changed' then to_seat else seat end as seat,
        from_seat,
        case schema_version
            when 1 then fare_usd
            when 2 then cast(fare_cents * 0.01 as decimal(18, 2))
        end as fare_usd,
        carrier,
        flight_number,
        origin,
        destination,
        departs_at,
        departs_at_utc_offset,
        capacity,
        command,
        reason,
        rejection_reason,
        case when rejection_reason is not null then value end as rejected_value
    from judged
)

{{ first_archived_wins('decoded') }}
