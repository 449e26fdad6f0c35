{{ config(materialized='incremental', unique_key='booking_id', meta={'level': 'entity'}) }}

with booking_events as (
    select
        booking_id,
        flight_id,
        passenger_id,
        event_id,
        event_type,
        sequence,
        occurred_at,
        seat,
        fare_usd
    from {{ history('stg_flight_booking__bookings') }}
    where event_type in ('booking_confirmed', 'seat_changed', 'checked_in', 'booking_cancelled')
),

states as (
    select * from {{ history('booking_history') }}
),

confirmations as (
    select
        booking_id,
        passenger_id,
        fare_usd,
        occurred_at as confirmed_at
    from booking_events
    where event_type = 'booking_confirmed'
    qualify row_number() over (partition by booking_id order by sequence, event_id) = 1
),

-- what happened on the way to the current state
ways as (
    select
        booking_id,
        count(*) filter (where event_type = 'seat_changed') as seat_changes,
        min(valid_from_at) filter (where event_type = 'checked_in') as checked_in_at,
        max(valid_from_at) filter (where event_type = 'booking_cancelled') as cancelled_at,
        bool_or(is_after_a_gap) as has_missing_events
    from states
    group by booking_id
),

final as (
    select
        states.booking_id,
        states.flight_id,
        confirmations.passenger_id,
        states.status,
        states.seat,
        confirmations.fare_usd,
        confirmations.confirmed_at,
        ways.checked_in_at,
        ways.cancelled_at,
        states.cancellation_reason,
        ways.seat_changes,
        states.sequence as last_sequence,
        states.valid_from_at as last_changed_at,
        ways.has_missing_events
    from states
    inner join ways on states.booking_id = ways.booking_id
    left join confirmations on states.booking_id = confirmations.booking_id
    where states.is_current
)

select * from final
