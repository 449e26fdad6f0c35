{{ config(materialized='incremental', unique_key='flight_id', meta={'level': 'entity'}) }}

with flight_events as (
    select
        flight_id,
        event_id,
        event_type,
        sequence,
        carrier,
        flight_number,
        origin,
        destination,
        departs_at,
        departs_at_utc_offset,
        capacity
    from {{ history('stg_flight_booking__bookings') }}
    where event_type in ('flight_scheduled', 'flight_rescheduled')
),

schedules as (
    select * from flight_events
    where event_type = 'flight_scheduled'
    qualify row_number() over (partition by flight_id order by sequence, event_id) = 1
),

current_times as (
    select
        *,
        count(*) filter (where event_type = 'flight_rescheduled') over (partition by flight_id) as reschedules
    from flight_events
    qualify row_number() over (partition by flight_id order by sequence desc, event_id desc) = 1
),

time_zones as (
    select * from {{ ref('int_flight_booking__airport_time_zones') }}
),

final as (
    select
        schedules.flight_id,
        schedules.carrier,
        schedules.flight_number,
        schedules.origin,
        schedules.destination,
        schedules.departs_at as first_scheduled_at,
        current_times.departs_at,
        current_times.departs_at_utc_offset,
        -- where the time zone is not known, the offset that the service wrote has to do
        cast(coalesce(
            timezone(time_zones.time_zone, current_times.departs_at),
            timezone('UTC', current_times.departs_at) + {{ utc_offset_interval('current_times.departs_at_utc_offset') }}
        ) as date) as departure_date,
        current_times.reschedules,
        schedules.capacity as capacity_seats
    from schedules
    inner join current_times on schedules.flight_id = current_times.flight_id
    left join time_zones on schedules.origin = time_zones.airport
)

select * from final
