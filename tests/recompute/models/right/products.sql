-- Of two inputs of different levels.
{{ config(materialized='incremental', unique_key='product_id', meta={'level': 'entity'}) }}

with additions as (
    select product_id, count(*) as additions from {{ history('item_additions') }} group by product_id
),

contents as (
    select product_id, sum(quantity) as units from {{ history('cart_items') }} group by product_id
)

select
    product_id,
    additions.additions,
    contents.units
from additions
full join contents using (product_id)
