{{ config(materialized='incremental', meta={'level': 'event'}) }}

{% set fields = [
    {'name': 'event_id', 'type': 'string', 'required_by': 'all'},
    {'name': 'order_id', 'type': 'string', 'required_by': 'all'},
    {'name': 'customer', 'type': 'string', 'required_by': 'all'},
    {'name': 'ordered_on', 'type': 'date', 'required_by': 'all'},
    {'name': 'amount', 'type': 'integer', 'required_by': 'all'},
] %}

with parsed as (
    select *, {{ json_types_and_texts('payload', fields) }}
    from {{ new_events('orders') }}
),

typed as (
    select parsed.*, {{ typed_fields(fields) }}
    from parsed
),

decoded as materialized (
    select
        source_id, source_partition, source_offset, commit_version, event_id, order_id, customer, ordered_on, amount,
        {{ rejection_reason(fields) }} as rejection_reason
    from typed
)

{{ first_archived_wins('decoded') }}
