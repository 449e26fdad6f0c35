select
    source_id,
    source_partition,
    source_offset,
    commit_version,
    ingested_at,
    event_id,
    event_type
from {{ ref('stg_flight_booking__bookings_decoded') }}
where outcome = 'duplicate'
