{{ config(materialized='incremental', unique_key='started_date', meta={'level': 'day'}) }}

with carts as (
    select * from {{ history('carts') }}
),

final as (
    select
        started_date,
        count(*) as carts,
        count(*) filter (where status = 'checked_out') as checked_out_carts,
        count(*) filter (where status = 'abandoned') as abandoned_carts,
        count(*) filter (where status = 'open') as open_carts,
        cast(coalesce(sum(value_usd) filter (where status = 'abandoned'), 0) as decimal(38, 2)) as abandoned_value_usd,
        -- of the carts that have come to an end
        cast(
            count(*) filter (where status = 'abandoned')
            / nullif(count(*) filter (where status <> 'open'), 0) as decimal(5, 4)
        ) as abandonment_rate
    from carts
    group by started_date
)

select * from final
