-- A flight never carries more bookings than its plane has seats.
select
    flight_id,
    capacity_seats,
    booked_seats
from {{ changed('seat_availability') }}
where booked_seats > capacity_seats or available_seats < 0
