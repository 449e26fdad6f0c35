-- A row says something of all bookings, but only those of changed flights are read.
{{ config(materialized='incremental', unique_key='flight_id', meta={'level': 'entity'}) }}

select
    flight_id,
    booking_id,
    count(*) over () as bookings_of_all_flights
from {{ history('bookings') }}
