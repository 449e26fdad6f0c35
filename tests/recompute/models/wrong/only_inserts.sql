-- A cart that gets a late event is there twice.
{{ config(materialized='incremental', incremental_strategy='append', unique_key='cart_id', meta={'level': 'entity'}) }}

select
    cart_id,
    max(cart_version) as last_version
from {{ history('stg_shopping_cart__cart_events') }}
group by cart_id
