-- Three models deep, and by yet another key.
{{ config(materialized='incremental', unique_key='bookings', meta={'level': 'entity'}) }}

select
    bookings,
    count(*) as passengers
from {{ history('passengers') }}
group by bookings
