{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}) }}

{#- A reduce by day needs the day as a column of what it reads. -#}
with carts as (
    select * from {{ history('carts') }}
),

items as (
    select * from {{ history('cart_items') }}
)

select
    items.cart_id,
    items.product_id,
    cast(carts.checked_out_at as date) as demand_date,
    items.quantity,
    items.line_value_usd
from items
inner join carts on items.cart_id = carts.cart_id
where carts.status = 'checked_out'
