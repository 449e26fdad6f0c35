-- What arrives last is taken for what happened last, as long as it is new.
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='booking_id', meta={'level': 'entity'}) }}

select
    booking_id,
    arg_max(seat, sequence) as seat
from {{ ref('stg_flight_booking__bookings') }}
where
    event_type = 'seat_changed'
    {% if is_incremental() %}
    and commit_version > {{ watermark(this.identifier) }}
    {% endif %}
group by booking_id
