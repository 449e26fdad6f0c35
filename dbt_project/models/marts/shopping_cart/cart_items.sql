{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}) }}

with item_events as (
    select
        cart_id,
        product_id,
        event_id,
        event_type,
        cart_version,
        occurred_at,
        quantity,
        unit_price_usd
    from {{ history('stg_shopping_cart__cart_events') }}
    where event_type in ('item_added', 'quantity_changed', 'item_removed')
),

numbered as (
    select
        *,
        row_number() over (partition by cart_id, product_id order by cart_version, event_id) as event_number
    from item_events
),

-- a removal or a new quantity makes every quantity before it void
resets as (
    select
        cart_id,
        product_id,
        max(event_number) as event_number
    from numbered
    where event_type in ('quantity_changed', 'item_removed')
    group by cart_id, product_id
),

lines as (
    select
        numbered.cart_id,
        numbered.product_id,
        cast(sum(
            case
                when numbered.event_type = 'item_removed' or numbered.event_number < resets.event_number then 0
                else numbered.quantity
            end
        ) as bigint) as quantity,
        -- the newest price holds for all of them
        arg_max(numbered.unit_price_usd, numbered.event_number) filter (where numbered.event_type = 'item_added')
            as unit_price_usd,
        min(numbered.occurred_at) filter (where numbered.event_type = 'item_added') as first_added_at
    from numbered
    left join resets
        on
            numbered.cart_id = resets.cart_id
            and numbered.product_id = resets.product_id
    group by numbered.cart_id, numbered.product_id
),

final as (
    select
        cart_id,
        product_id,
        quantity,
        unit_price_usd,
        cast(quantity * unit_price_usd as decimal(38, 2)) as line_value_usd,
        first_added_at
    from lines
    where quantity > 0
)

select * from final
