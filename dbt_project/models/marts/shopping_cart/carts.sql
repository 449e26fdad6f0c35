{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}) }}

with cart_events as (
    select
        cart_id,
        cart_version,
        event_id,
        event_type,
        occurred_at,
        customer_id,
        total_usd
    from {{ history('stg_shopping_cart__cart_events') }}
),

items as (
    select * from {{ history('cart_items') }}
),

numbered as (
    select
        *,
        row_number() over (partition by cart_id order by cart_version, event_id) as event_number
    from cart_events
),

lives as (
    select
        cart_id,
        min(customer_id) filter (where event_type = 'cart_opened') as customer_id,
        arg_max(event_type, event_number) as last_event_type,
        arg_min(occurred_at, event_number) as started_at,
        arg_max(occurred_at, event_number) as last_changed_at,
        arg_max(occurred_at, event_number) filter (where event_type = 'cart_checked_out') as checked_out_at,
        arg_max(total_usd, event_number) filter (where event_type = 'cart_checked_out') as checked_out_total_usd,
        max(cart_version) as last_version,
        count(distinct cart_version) as known_versions
    from numbered
    group by cart_id
),

contents as (
    select
        cart_id,
        count(*) as products,
        cast(sum(quantity) as bigint) as units,
        cast(sum(line_value_usd) as decimal(38, 2)) as value_usd
    from items
    group by cart_id
),

final as (
    select
        lives.cart_id,
        lives.customer_id,
        case lives.last_event_type
            when 'cart_checked_out' then 'checked_out'
            when 'cart_abandoned' then 'abandoned'
            else 'open'
        end as status,
        lives.started_at,
        cast(lives.started_at as date) as started_date,
        lives.last_changed_at,
        case when lives.last_event_type = 'cart_checked_out' then lives.checked_out_at end as checked_out_at,
        coalesce(contents.products, 0) as products,
        coalesce(contents.units, 0) as units,
        coalesce(contents.value_usd, 0) as value_usd,
        lives.checked_out_total_usd,
        lives.last_version,
        -- the service counts a cart's events from 1: a hole is an event that has not arrived, or was rejected
        lives.known_versions < lives.last_version as has_missing_events
    from lives
    left join contents on lives.cart_id = contents.cart_id
)

select * from final
