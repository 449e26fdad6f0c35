{{ config(materialized='incremental', unique_key=['demand_date', 'product_id'], meta={'level': 'day'}) }}

with added_items as (
    select * from {{ history('int_shopping_cart__added_items') }}
),

ordered_items as (
    select * from {{ history('int_shopping_cart__ordered_items') }}
),

added as (
    select
        demand_date,
        product_id,
        count(*) as additions,
        count(distinct cart_id) as carts_added_to,
        sum(quantity) as units_added
    from added_items
    group by all
),

ordered as (
    select
        demand_date,
        product_id,
        count(*) as orders,
        sum(quantity) as units_ordered,
        sum(line_value_usd) as ordered_value_usd
    from ordered_items
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
