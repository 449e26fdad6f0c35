-- Day level, of two streams.
{{ config(materialized='incremental', unique_key='event_date', meta={'level': 'day'}) }}

with said_of_bookings as (
    select event_date, count(*) as booking_events from {{ history('booking_dates') }} group by event_date
),

added as (
    select event_date, sum(quantity) as units_added from {{ history('item_additions') }} group by event_date
)

select
    event_date,
    said_of_bookings.booking_events,
    added.units_added
from said_of_bookings
full join added using (event_date)
