-- Two living bookings for one seat of a flight. While an event is on its way, or was rejected, an archive may truly hold
-- this: the seat was given back in between, and we don't know it yet. The service counts its decisions without holes; so
-- it is only a double sale if every decision between the two is known, and none of them freed the seat.
with decisions as (
    select sequence
    from {{ ref('stg_flight_booking__bookings') }}
    group by sequence
),

numbered_decisions as (
    select
        sequence,
        row_number() over (order by sequence) as decisions_known
    from decisions
),

-- the decision by which a booking came to its seat
seat_takings as (
    select
        history.flight_id,
        history.seat,
        history.booking_id,
        coalesce(
            max(history.sequence) filter (where history.event_type in ('booking_confirmed', 'seat_changed')),
            min(history.sequence)
        ) as taken_by
    from {{ ref('booking_history') }} as history
    inner join {{ ref('bookings') }} as bookings
        on
            history.booking_id = bookings.booking_id
            and history.seat = bookings.seat
    where bookings.status <> 'cancelled'
    group by all
),

neighbours as (
    select
        *,
        lead(booking_id) over seat_of_flight as next_booking_id,
        lead(taken_by) over seat_of_flight as next_taken_by
    from seat_takings
    window seat_of_flight as (partition by flight_id, seat order by taken_by, booking_id)
)

select
    neighbours.flight_id,
    neighbours.seat,
    neighbours.booking_id,
    neighbours.next_booking_id
from neighbours
inner join numbered_decisions as first_taking on neighbours.taken_by = first_taking.sequence
inner join numbered_decisions as second_taking on neighbours.next_taken_by = second_taking.sequence
where
    second_taking.decisions_known - first_taking.decisions_known
    = second_taking.sequence - first_taking.sequence
