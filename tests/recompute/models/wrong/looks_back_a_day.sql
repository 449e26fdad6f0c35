-- The usual look-back window: what comes later than a day is missed.
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='booking_id', meta={'level': 'entity'}) }}

select
    booking_id,
    count(*) as events,
    max(occurred_at) as last_at
from {{ ref('stg_flight_booking__bookings') }}
where
    event_type = 'booking_confirmed'
    {% if is_incremental() %}
    and occurred_at >= (select max(last_at) - interval 1 day from {{ this }})
    {% endif %}
group by booking_id
