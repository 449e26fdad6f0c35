{{ config(materialized='incremental', unique_key='customer', meta={'level': 'entity'}) }}

with visits as (
    select customer, count(*) as visits from {{ history('stg_visits') }} group by customer
),

bought as (
    select customer, count(*) as orders from {{ history('orders') }} group by customer
)

select customer, coalesce(visits.visits, 0) as visits, coalesce(bought.orders, 0) as orders
from visits full join bought using (customer)
