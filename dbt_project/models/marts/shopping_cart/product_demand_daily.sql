with cart_events as (
    select * from {{ ref('cart_events') }}
),

carts as (
    select * from {{ ref('carts') }}
),

items as (
    select * from {{ ref('cart_items') }}
),

added as (
    select
        cast(occurred_at as date) as demand_date,
        product_id,
        count(*) as additions,
        count(distinct cart_id) as carts_added_to,
        sum(quantity) as units_added
    from cart_events
    where event_type = 'item_added'
    group by all
),

ordered as (
    select
        cast(carts.checked_out_at as date) as demand_date,
        items.product_id,
        count(*) as orders,
        sum(items.quantity) as units_ordered,
        sum(items.line_value_usd) as ordered_value_usd
    from items
    inner join carts on items.cart_id = carts.cart_id
    where carts.status = 'checked_out'
    group by all
),

final as (
    select
        demand_date,
        product_id,
        coalesce(added.additions, 0) as additions,
        coalesce(added.carts_added_to, 0) as carts_added_to,
        cast(coalesce(added.units_added, 0) as bigint) as units_added,
        coalesce(ordered.orders, 0) as orders,
        cast(coalesce(ordered.units_ordered, 0) as bigint) as units_ordered,
        cast(coalesce(ordered.ordered_value_usd, 0) as decimal(38, 2)) as ordered_value_usd
    from added
    full outer join ordered using (demand_date, product_id)
)

select * from final
