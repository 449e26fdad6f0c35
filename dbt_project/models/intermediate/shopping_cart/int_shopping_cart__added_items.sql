{{ config(materialized='view') }}

select
    cast(occurred_at as date) as demand_date,
    product_id,
    cart_id,
    quantity,
    commit_version
from {{ ref('stg_shopping_cart__cart_events') }}
where event_type = 'item_added'
