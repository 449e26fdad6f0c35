-- The watermark is an event time: late events are missed.
{{ config(materialized='incremental', incremental_strategy='append', unique_key='event_id', meta={'level': 'entity'}) }}

select
    event_id,
    cart_id,
    occurred_at
from {{ ref('cart_events') }}
{% if is_incremental() %}
where occurred_at > (select max(occurred_at) from {{ this }})
{% endif %}
