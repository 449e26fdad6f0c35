-- Event level over event level.
{{ config(materialized='incremental', meta={'level': 'event'}) }}

select
    event_id,
    cart_id,
    product_id,
    quantity,
    cast(occurred_at as date) as event_date,
    commit_version
from {{ history('cart_events') }}
where event_type = 'item_added'
