select
    source_id,
    source_partition,
    source_offset,
    commit_version,
    ingested_at,
    rejection_reason as reason,
    event_id,
    event_type,
    rejected_value as value
from {{ ref('stg_shopping_cart__cart_events_decoded') }}
where outcome = 'rejected'
