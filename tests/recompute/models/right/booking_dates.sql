-- A view over an event level model is event level.
{{ config(materialized='view') }}

select
    cast(occurred_at as date) as event_date,
    event_type,
    commit_version
from {{ ref('stg_flight_booking__bookings') }}
