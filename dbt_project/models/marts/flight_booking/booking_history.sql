{{ config(materialized='incremental', unique_key='booking_id', meta={'level': 'entity'}) }}

with booking_events as (
    select
        booking_id,
        flight_id,
        event_id,
        event_type,
        sequence,
        occurred_at,
        seat,
        from_seat,
        reason
    from {{ history('stg_flight_booking__bookings') }}
    where event_type in ('booking_confirmed', 'seat_changed', 'checked_in', 'booking_cancelled')
),

-- the service's own counter orders the states; arrival and clocks don't
states as (
    select
        *,
        row_number() over booking as state_number,
        lag(seat) over booking as previous_seat,
        lead(occurred_at) over booking as valid_until_at,
        lead(event_id) over booking is null as is_current,
        count(*) filter (where event_type = 'checked_in') over booking > 0 as has_checked_in
    from booking_events
    window booking as (partition by booking_id order by sequence, event_id)
),

final as (
    select
        booking_id,
        state_number,
        flight_id,
        event_id,
        event_type,
        sequence,
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
        case
            when state_number = 1 then event_type <> 'booking_confirmed'
            else coalesce(from_seat, seat) <> previous_seat
        end as is_after_a_gap
    from states
)

select * from final
