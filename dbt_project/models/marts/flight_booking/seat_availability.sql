{{ config(materialized='incremental', unique_key='flight_id', meta={'level': 'entity'}) }}

with flights as (
    select * from {{ history('int_flight_booking__flights') }}
),

seats as (
    select * from {{ history('int_flight_booking__seats') }}
),

bookings as (
    select * from {{ history('bookings') }}
),

-- A seat is taken when the last that is known of the seat and the last that is known of the booking agree: while an event
-- is still on its way, neither alone is enough.
taken_seats as (
    select
        seats.flight_id,
        seats.seat,
        bookings.status
    from seats
    inner join bookings
        on
            seats.last_booking_id = bookings.booking_id
            and seats.flight_id = bookings.flight_id
            and seats.seat = bookings.seat
    where seats.is_taken and bookings.status <> 'cancelled'
),

taken_per_flight as (
    select
        flight_id,
        count(*) as booked_seats,
        count(*) filter (where status = 'checked_in') as checked_in_seats,
        list(seat order by try_cast(regexp_extract(seat, '^\d+') as integer), seat) as taken_seats
    from taken_seats
    group by flight_id
),

final as (
    select
        flights.flight_id,
        flights.carrier,
        flights.flight_number,
        flights.origin,
        flights.destination,
        flights.departs_at,
        flights.departs_at_utc_offset,
        flights.departure_date,
        flights.capacity_seats,
        coalesce(taken_per_flight.booked_seats, 0) as booked_seats,
        coalesce(taken_per_flight.checked_in_seats, 0) as checked_in_seats,
        flights.capacity_seats - coalesce(taken_per_flight.booked_seats, 0) as available_seats,
        coalesce(taken_per_flight.taken_seats, []) as taken_seats
    from flights
    left join taken_per_flight on flights.flight_id = taken_per_flight.flight_id
)

select * from final
