{#-
    What becomes of each decoded event: 'rejected' if it has a rejection_reason, 'duplicate' if an accepted event with its event_id was
    archived before it, else 'accepted'. A rejected event never stands in the way of a sound one with the same event_id.

    Before means: by commit, then by source and position in it. That order is the archive's own, so the choice is the same in
    every build. Few ids are repeated, so the ordering is done for those alone.

    Args: the name of a CTE (written `as materialized`, it is read several times) with the position columns, event_id, rejection_reason.
-#}
{% macro first_archived_wins(decoded) -%}
    select
        {{ decoded }}.*,
        case
            when {{ decoded }}.rejection_reason is not null then 'rejected'
            {%- if is_incremental() %}
            when known.event_id is not null then 'duplicate'
            {%- endif %}
            when firsts.event_id is not null and (
                {{ decoded }}.commit_version <> firsts.commit_version
                or {{ decoded }}.source_id <> firsts.source_id
                or {{ decoded }}.source_partition <> firsts.source_partition
                or {{ decoded }}.source_offset <> firsts.source_offset
            ) then 'duplicate'
            else 'accepted'
        end as outcome
    from {{ decoded }}
    left join (
        select event_id, commit_version, source_id, source_partition, source_offset
        from {{ decoded }}
        where
            rejection_reason is null
            and event_id in (
                select event_id from {{ decoded }}
                where rejection_reason is null
                group by event_id
                having count(*) > 1
            )
        qualify row_number() over (
            partition by event_id order by commit_version, source_id, source_partition, source_offset
        ) = 1
    ) as firsts on {{ decoded }}.event_id = firsts.event_id
    {%- if is_incremental() %}
    left join (
        select event_id from {{ this }}
        where
            outcome = 'accepted'
            and commit_version <= {{ watermark(this.identifier) }}
            and event_id in (select event_id from {{ decoded }})
    ) as known on {{ decoded }}.event_id = known.event_id
    {%- endif %}
{%- endmacro %}
