-- What it has once, it never looks at again.
{{ config(materialized='incremental', incremental_strategy='append', unique_key='product_id', meta={'level': 'entity'}) }}

select
    product_id,
    sum(quantity) as units
from {{ ref('cart_items') }}
{% if is_incremental() %}
where product_id not in (select product_id from {{ this }})
{% endif %}
group by product_id
