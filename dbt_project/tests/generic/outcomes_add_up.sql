{#-
    Every archived event is accepted, rejected or a duplicate, and none is lost or counted twice: the model holds exactly the
    positions of the archive (compared by number and by the sum of their hashes), after an incremental run as after a rebuild.
    Only as far as the model's watermark: a run of other models alone doesn't make it wrong.
-#}
{% test outcomes_add_up(model, stream) %}

with archived as (
    select
        count(*) as events,
        sum(cast(hash(source_id, source_partition, source_offset) as hugeint)) as positions
    from {{ source('event_archive', stream) }}
    where commit_version <= {{ watermark(model.identifier, stream) }}
),

decoded as (
    select
        count(*) as events,
        count(*) filter (where outcome in ('accepted', 'rejected', 'duplicate')) as events_with_outcome,
        sum(cast(hash(source_id, source_partition, source_offset) as hugeint)) as positions
    from {{ model }}
)

select
    archived.events as archived_events,
    decoded.events as decoded_events,
    decoded.events_with_outcome
from archived, decoded
where
    archived.events <> decoded.events
    or archived.events <> decoded.events_with_outcome
    or archived.positions is distinct from decoded.positions

{% endtest %}
