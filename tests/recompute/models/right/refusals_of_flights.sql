-- Commands need not name a flight: null is a key like any other.
{{ config(materialized='incremental', unique_key='flight_id', meta={'level': 'entity'}) }}

select
    flight_id,
    count(*) as refusals,
    count(distinct booking_id) as bookings,
    max(sequence) as last_sequence
from {{ history('stg_flight_booking__bookings') }}
where event_type = 'command_refused'
group by flight_id
