{{ config(materialized='incremental', meta={'level': 'event'}) }}

{#- What an event of the shopping cart service may say; demo/EVENTS.md has the words. -#}
{% set event_types = [
    'cart_opened', 'item_added', 'quantity_changed', 'item_removed', 'cart_checked_out', 'cart_abandoned',
] %}
{% set fields = [
    {'name': 'event_id', 'type': 'string', 'required_by': 'all'},
    {'name': 'event_type', 'type': 'string', 'required_by': 'all'},
    {'name': 'schema_version', 'type': 'integer', 'required_by': 'all'},
    {'name': 'occurred_at', 'type': 'timestamp', 'required_by': 'all'},
    {'name': 'cart_id', 'type': 'string', 'required_by': 'all'},
    {'name': 'cart_version', 'type': 'integer', 'minimum': 1, 'required_by': 'all'},
    {'name': 'customer_id', 'type': 'string', 'required_by': ['cart_opened']},
    {'name': 'product_id', 'type': 'string', 'required_by': ['item_added', 'quantity_changed', 'item_removed']},
    {
        'name': 'quantity', 'type': 'integer', 'minimum': 1, 'maximum': 10**6,
        'required_by': ['item_added', 'quantity_changed'],
    },
    {'name': 'unit_price_usd', 'path': 'unit_price', 'type': 'amount', 'required_by': ['item_added'], 'schema_version': 1},
    {
        'name': 'unit_price_cents', 'type': 'integer', 'maximum': 10**12,
        'required_by': ['item_added'], 'schema_version': 2,
    },
    {'name': 'total_usd', 'path': 'total', 'type': 'amount', 'required_by': ['cart_checked_out'], 'schema_version': 1},
    {
        'name': 'total_cents', 'type': 'integer', 'maximum': 10**12,
        'required_by': ['cart_checked_out'], 'schema_version': 2,
    },
] %}

with judged as (
    {{ judged_events('cart_events', fields, event_types, schema_versions=[1, 2]) }}
),

decoded as materialized (
    select
        source_id,
        source_partition,
        source_offset,
        commit_version,
        ingested_at,
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
        case schema_version
            when 1 then unit_price_usd
            when 2 then cast(unit_price_cents * 0.01 as decimal(18, 2))
        end as unit_price_usd,
        case schema_version
            when 1 then total_usd
            when 2 then cast(total_cents * 0.01 as decimal(18, 2))
        end as total_usd,
        rejection_reason,
        case when rejection_reason is not null then value end as rejected_value
    from judged
)

{{ first_archived_wins('decoded') }}
