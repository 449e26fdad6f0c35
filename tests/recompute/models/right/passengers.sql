-- Made of rows that change, by a key that is not theirs: a booking may move from one passenger to another, or to nobody.
{{ config(materialized='incremental', unique_key='passenger_id', meta={'level': 'entity'}) }}

select
    passenger_id,
    count(*) as bookings,
    sum(fare_usd) as fares_usd,
    list(booking_id order by booking_id) as booking_ids
from {{ history('bookings') }}
group by passenger_id
