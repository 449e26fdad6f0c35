{{ config(materialized='view') }}

select
    event_id,
    event_type,
    occurred_at,
    occurred_at_utc_offset,
    cart_id,
    cart_version,
    customer_id,
    product_id,
    quantity,
    unit_price_usd,
    total_usd,
    schema_version,
    commit_version,
    ingested_at
from {{ ref('stg_shopping_cart__cart_events') }}
