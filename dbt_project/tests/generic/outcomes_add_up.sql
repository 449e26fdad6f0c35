{#-
    Every archived event is accepted, rejected or a duplicate, and none is lost or counted twice: the model holds exactly the
    positions of the archive (compared by number and by the sum of their hashes), after an incremental run as after a rebuild.
    Only as far as the model's watermark: a run of other models alone doesn't make it wrong. In a refresh it is the events beyond
    those that were compared before, on both sides.
-#}
{% test outcomes_add_up(model, stream) %}

{%- set is_of_new_events = looks_at_changes(of_streams_too=true, of_tables_alone=true) %}
{%- set archive = source('event_archive', stream) %}
{%- set seen = seen_by_check(model.identifier, 'commit_version') if is_of_new_events else -1 %}

with archived as (
    select
        count(*) as events,
        sum(cast(hash(source_id, source_partition, source_offset) as hugeint)) as positions
    from {{ archive.include(schema=false, identifier=false) ~ '.recent.' ~ stream if is_of_new_events else archive }}
    where commit_version > {{ seen }} and commit_version <= {{ watermark(model.identifier, stream) }}
),

decoded as (
    select
        count(*) as events,
        count(*) filter (where outcome in ('accepted', 'rejected', 'duplicate')) as events_with_outcome,
        sum(cast(hash(source_id, source_partition, source_offset) as hugeint)) as positions
    from {{ model }}
    where commit_version > {{ seen }}
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
