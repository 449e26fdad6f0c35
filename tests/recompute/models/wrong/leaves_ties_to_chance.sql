-- Two events with one version: which of them counts is whichever DuckDB comes across first.
{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}) }}

select
    cart_id,
    cart_version,
    event_type,
    occurred_at
from {{ history('stg_shopping_cart__cart_events') }}
qualify row_number() over (partition by cart_id order by cart_version desc) = 1
