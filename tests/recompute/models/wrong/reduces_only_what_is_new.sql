-- Of the cart's events, those before the watermark are forgotten.
{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}) }}

select
    cart_id,
    count(*) as events
from {{ history('stg_shopping_cart__cart_events') }}
{% if is_incremental() %}
where commit_version > {{ watermark(this.identifier) }}
{% endif %}
group by cart_id
