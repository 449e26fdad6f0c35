-- A table is computed in full with each run, whatever it does.
{{ config(materialized='table') }}

select
    event_date,
    coalesce(booking_events, 0) + coalesce(units_added, 0) as activity,
    count(*) over () as days
from {{ ref('activity_daily') }}
