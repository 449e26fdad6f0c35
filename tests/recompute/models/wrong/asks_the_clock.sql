-- What it says depends on when it is asked.
{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}) }}

select
    cart_id,
    max(occurred_at) as last_at,
    now() as computed_at
from {{ history('stg_shopping_cart__cart_events') }}
group by cart_id
