{{ config(materialized='incremental', unique_key='flight_id', meta={'level': 'entity'}) }}

with booking_events as (
    select
        flight_id,
        booking_id,
        event_id,
        event_type,
        sequence,
        seat,
        from_seat
    from {{ history('stg_flight_booking__bookings') }}
    where event_type in ('booking_confirmed', 'seat_changed', 'checked_in', 'booking_cancelled')
),

-- a seat change is two things: one seat is taken, another is given back
seat_events as (
    select
        flight_id,
        seat,
        booking_id,
        sequence,
        event_id,
        event_type <> 'booking_cancelled' as is_taken
    from booking_events

    union all

    select
        flight_id,
        from_seat as seat,
        booking_id,
        sequence,
        event_id,
        false as is_taken
    from booking_events
    where event_type = 'seat_changed' and from_seat <> seat
),

final as (
    select
        flight_id,
        seat,
        booking_id as last_booking_id,
        is_taken,
        sequence as last_sequence
    from seat_events
    qualify row_number() over (partition by flight_id, seat order by sequence desc, event_id desc) = 1
)

select * from final
