-- A cart of which nothing is left stays: delete+insert deletes only what it is about to insert.
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='cart_id', meta={'level': 'entity'}) }}

select
    cart_id,
    count(*) as products
from {{ history('cart_items') }}
group by cart_id
