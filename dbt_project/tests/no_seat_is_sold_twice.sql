-- Two living bookings for one seat of a flight. While an event is on its way, or was rejected, an archive may truly hold
-- this: the seat was given back in between, and we don't know it yet. The service counts its decisions without holes; so
-- it is only a double sale if every decision between the two is known, and none of them freed the seat.
with living_bookings as (
    select
        booking_id,
        flight_id,
        seat
    from {{ ref('bookings') }}
    where status <> 'cancelled'
),

contested_seats as (
    select
        flight_id,
        seat
    from living_bookings
    group by flight_id, seat
    having count(*) > 1
),

-- so few that all the rest is cheap
contested_bookings as materialized (
    select living_bookings.*
    from living_bookings
    inner join contested_seats
        on
            living_bookings.flight_id = contested_seats.flight_id
            and living_bookings.seat = contested_seats.seat
),

-- the decision by which a booking came to its seat
seat_takings as (
    select
        contested_bookings.flight_id,
        contested_bookings.seat,
        history.booking_id,
        coalesce(
            max(history.sequence) filter (where history.event_type in ('booking_confirmed', 'seat_changed')),
            min(history.sequence)
        ) as taken_by
    from contested_bookings
    inner join {{ ref('booking_history') }} as history
        on
            contested_bookings.booking_id = history.booking_id
            and contested_bookings.flight_id = history.flight_id
            and contested_bookings.seat = history.seat
    group by all
),

neighbours as materialized (
    select
        *,
        lead(booking_id) over seat_of_flight as next_booking_id,
        lead(taken_by) over seat_of_flight as next_taken_by
    from seat_takings
    window seat_of_flight as (partition by flight_id, seat order by taken_by, booking_id)
),

decisions as (
    select
        sequence,
        lag(sequence) over (order by sequence) as previous_sequence
    from {{ ref('stg_flight_booking__bookings') }}
    where
        sequence between
        (select min(neighbours.taken_by) from neighbours)
        and (select max(neighbours.next_taken_by) from neighbours)
),

-- decisions of which the one before isn't known
after_holes as materialized (
    select sequence
    from decisions
    where previous_sequence < sequence - 1
)

select
    flight_id,
    seat,
    booking_id,
    next_booking_id
from neighbours
where
    next_taken_by > taken_by
    and not exists (
        select 1
        from after_holes
        where
            neighbours.taken_by < after_holes.sequence
            and neighbours.next_taken_by >= after_holes.sequence
    )
