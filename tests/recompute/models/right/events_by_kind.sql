-- A key of two columns.
{{ config(materialized='incremental', unique_key=['event_type', 'flight_id'], meta={'level': 'entity'}) }}

select
    event_type,
    flight_id,
    count(*) as events,
    min(sequence) as first_sequence
from {{ history('stg_flight_booking__bookings') }}
group by event_type, flight_id
