{{ config(materialized='incremental', meta={'level': 'event'}) }}

select payload ->> 'event_id' as event_id, payload ->> 'customer' as customer, commit_version
from {{ new_events('visits') }}
