-- It joins rows of other keys, and is not told when they change.
{{ config(materialized='incremental', unique_key='booking_id', meta={'level': 'entity'}) }}

with bookings as (
    select * from {{ history('bookings') }}
)

select
    bookings.booking_id,
    count(*) as bookings_of_its_flight
from bookings
inner join {{ ref('bookings') }} as others on bookings.flight_id = others.flight_id
group by bookings.booking_id
