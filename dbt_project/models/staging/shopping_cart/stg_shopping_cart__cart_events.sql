select
    event_id,
    event_type,
    schema_version,
    occurred_at,
    occurred_at_utc_offset,
    cart_id,
    cart_version,
    customer_id,
    product_id,
    quantity,
    unit_price_usd,
    total_usd,
    source_id,
    source_partition,
    source_offset,
    commit_version,
    ingested_at
from {{ ref('stg_shopping_cart__cart_events_decoded') }}
where outcome = 'accepted'
