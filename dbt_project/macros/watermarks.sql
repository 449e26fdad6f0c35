{#-
    What is new, by commit. A model's watermark is, per stream, the archive commit up to which its rows go; it is noted in
    meta.watermarks in the transaction that writes those rows. What is beyond it is new, however late or disordered.

    Nothing here looks at a clock or at event times.
-#}

{#- The watermark of a model as an SQL expression: -1 when it has consumed nothing. -#}
{% macro watermark(model_name, stream=none) -%}
    (
        select coalesce(min(consumed.commit_version), -1)
        from meta.watermarks as consumed
        where consumed.model = '{{ model_name }}'
        {%- if stream %} and consumed.stream = '{{ stream }}'{% endif %}
    )
{%- endmacro %}

{#- Events of a stream of the archive that this event level model has not consumed: all of them when it is built in full. -#}
{% macro new_events(stream) -%}
    {%- if is_incremental() -%}
    (
        select * from {{ source('event_archive', stream) }}
        where commit_version > {{ watermark(this.identifier, stream) }}
    )
    {%- else -%}
    {{ source('event_archive', stream) }}
    {%- endif -%}
{%- endmacro %}

{#-
    What a model knows of the entities that this entity level model has to reduce again: all of them when it is built in full, else those
    of which something is new. Of each such entity it gives the whole history, never just the new part.

    The model's `unique_key` is the entity's key; `reduces` in its `meta` names the staging models (each has that key and a
    commit_version) in whose new events the affected entities are seen.
-#}
{% macro history(model_name) -%}
    {%- if is_incremental() -%}
    (
        select * from {{ ref(model_name) }}
        where {{ config.get('unique_key') }} in ({{ affected_entities() }})
    )
    {%- else -%}
    {{ ref(model_name) }}
    {%- endif -%}
{%- endmacro %}

{#- Keys of the entities of which this model has not consumed everything, as a query. -#}
{% macro affected_entities() -%}
    {%- for staging_model in config.get('meta').get('reduces') %}
    {%- if not loop.first %} union {% endif %}
    select {{ config.get('unique_key') }} from {{ ref(staging_model) }}
    where
        commit_version > {{ watermark(this.identifier, the_stream_behind(staging_model)) }}
        and {{ config.get('unique_key') }} is not null
    {%- endfor %}
{%- endmacro %}

{#- The one stream that a model is made of. Commits of different streams can't be compared, so rows of two have no common watermark. -#}
{% macro the_stream_behind(model_name) -%}
    {%- set streams = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.alias == model_name -%}
        {%- do streams_behind(node, streams) -%}
    {%- endfor -%}
    {%- if streams | unique | list | length != 1 -%}
        {{ exceptions.raise_compiler_error(model_name ~ ' has to be made of one stream to be read by its commits; it is made of: ' ~ streams) }}
    {%- endif -%}
    {%- do return(streams[0]) -%}
{%- endmacro %}

{% macro streams_behind(node, found) -%}
    {%- for input_id in node.depends_on.nodes -%}
        {%- if input_id in graph.sources -%}
            {%- do found.append(graph.sources[input_id].identifier) -%}
        {%- else -%}
            {%- do streams_behind(graph.nodes[input_id], found) -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}

{#- Before the first model: a place for the watermarks, and a refusal to go on from a build that knows more than the snapshot. -#}
{% macro prepare_watermarks() -%}
    {%- if execute -%}
        {%- if not run_query("select 1 from duckdb_databases() where database_name = 'event_archive'").rows -%}
            {{ exceptions.raise_compiler_error(
                'There is no archive to build from: EVENT_ARCHIVE_SNAPSHOT does not name a snapshot. `make demo` and the Dagster jobs set it'
            ) }}
        {%- endif -%}
        {%- do run_query('create schema if not exists meta') -%}
        {%- do run_query(
            'create table if not exists meta.watermarks (model varchar not null, stream varchar not null, commit_version bigint not null)'
        ) -%}
        {%- if not flags.FULL_REFRESH and flags.WHICH in ('run', 'build') -%}
            {%- set ahead = run_query(
                'select distinct stream, commit_version from meta.watermarks'
                ~ ' inner join event_archive.archive.pinned_snapshot using (stream)'
                ~ ' where commit_version > version order by stream'
            ) -%}
            {%- for row in ahead.rows -%}
                {{ exceptions.raise_compiler_error(
                    'The build has consumed ' ~ row[0] ~ ' up to commit ' ~ row[1]
                    ~ ', beyond the pinned snapshot; build an earlier snapshot with --full-refresh'
                ) }}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#-
    After each model, in its transaction: how far its rows go. That is as far as the least of what it reads: a source goes as far as
    the pinned snapshot, a table as far as its own watermark, a view as far as what it reads. So a run of only some models
    never makes one believe that it has seen what its inputs have not.
-#}
{% macro record_watermarks() -%}
    {%- if execute and model.config.materialized in ('table', 'incremental') -%}
        {%- set inputs = watermark_inputs(model, {'streams': [], 'models': []}) -%}
        delete from meta.watermarks where model = '{{ this.identifier }}';
        insert into meta.watermarks (model, stream, commit_version)
        select '{{ this.identifier }}', input.stream, min(input.commit_version)
        from (
            select pinned.stream, pinned.version as commit_version
            from event_archive.archive.pinned_snapshot as pinned
            where pinned.stream in ({{ quoted_list(inputs.streams) }})
            union all
            select consumed.stream, consumed.commit_version
            from meta.watermarks as consumed
            where consumed.model in ({{ quoted_list(inputs.models) }})
        ) as input
        group by input.stream
    {%- endif -%}
{%- endmacro %}

{% macro watermark_inputs(node, found) -%}
    {%- for input_id in node.depends_on.nodes -%}
        {%- if input_id in graph.sources -%}
            {%- do found.streams.append(graph.sources[input_id].identifier) -%}
        {%- elif graph.nodes[input_id].config.materialized in ('table', 'incremental') -%}
            {%- do found.models.append(graph.nodes[input_id].alias) -%}
        {%- else -%}
            {%- do watermark_inputs(graph.nodes[input_id], found) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(found) -%}
{%- endmacro %}

{% macro quoted_list(names) -%}
    {%- for name in names | unique %}'{{ name }}'{{ ', ' if not loop.last }}{% else %}null{% endfor -%}
{%- endmacro %}
