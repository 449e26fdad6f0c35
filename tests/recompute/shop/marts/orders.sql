{{ config(materialized='incremental', unique_key='order_id', meta={'level': 'entity'}) }}

{#- The last word on an order counts. -#}
with numbered as (
    select *, row_number() over (partition by order_id order by ordered_on, event_id) as number
    from {{ history('stg_orders') }}
)

select
    order_id,
    arg_max(customer, number) as customer,
    arg_max(ordered_on, number) as ordered_on,
    {{ in_cents('arg_max(amount, number)') }} as amount_cents
from numbered
group by order_id
