{{ config(materialized='incremental', unique_key='departure_date', meta={'level': 'day'}) }}

with flights as (
    select * from {{ history('seat_availability') }}
),

final as (
    select
        departure_date,
        carrier,
        origin,
        count(*) as flights,
        cast(sum(capacity_seats) as bigint) as capacity_seats,
        cast(sum(booked_seats) as bigint) as booked_seats,
        cast(sum(checked_in_seats) as bigint) as checked_in_seats,
        count(*) filter (where available_seats = 0) as full_flights,
        cast(sum(booked_seats) / nullif(sum(capacity_seats), 0) as decimal(9, 4)) as load_factor
    from flights
    group by departure_date, carrier, origin
)

select * from final
