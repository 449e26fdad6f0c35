{{ config(materialized='view') }}

{#- The service writes departures in any offset, often in UTC; a local date needs the place. -#}
select
    airports.airport,
    airports.time_zone
from (
    values
    ('EWR', 'America/New_York'),
    ('JFK', 'America/New_York'),
    ('LGA', 'America/New_York')
) as airports (airport, time_zone)
