select
    source_id,
    source_partition,
    source_offset,
    commit_version,
    ingested_at,
    event_id,
    event_type
from {{ ref('stg_shopping_cart__cart_events_decoded') }}
where outcome = 'duplicate'
