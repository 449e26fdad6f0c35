{{ config(materialized='view') }}

select customer, orders from {{ ref('customers') }} where orders >= 2
