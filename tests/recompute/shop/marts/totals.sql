select cast(sum(orders) as bigint) as orders, cast(sum(visits) as bigint) as visits from {{ ref('customers') }}
