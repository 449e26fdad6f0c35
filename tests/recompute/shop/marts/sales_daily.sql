{{ config(materialized='incremental', unique_key='ordered_on', meta={'level': 'day'}) }}

select ordered_on, count(*) as orders, cast(sum(amount_cents) as bigint) as sales_cents
from {{ history('orders') }}
group by ordered_on
