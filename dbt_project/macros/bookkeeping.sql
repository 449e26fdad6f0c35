{#-
    What a build notes of itself in the schema meta, each model's part in the transaction that writes its rows:

        watermarks(model, stream, commit_version)            up to which commit of each stream its rows go
        models(model, …, version, full_at)                   its version grows with each run; full_at is the one that was computed in full last
        inputs(model, input, version, commit_version)        which version of each table that it reads its rows hold, or a check (by its unique id) has seen
        checks(check_id, code)                               what code a check was of when it last passed
        plain_views(view)                                    views that give each row of an event level model once or not at all, with its commit
        changes__<model>                                     which rows its incremental runs have removed and added

    and what it is asked to do, by whoever starts dbt: stale(model, reason), asked_days(…), asked_commits(…).
-#}

{#- Before the first model: a place for all that, and a refusal to go on from a build that knows more than the snapshot. -#}
{% macro prepare_bookkeeping() -%}
    {%- if execute -%}
        {%- if not run_query("select 1 from duckdb_databases() where database_name = 'event_archive'").rows -%}
            {{ exceptions.raise_compiler_error(
                'There is no archive to build from: EVENT_ARCHIVE_SNAPSHOT does not name a snapshot.'
                ~ ' `event-archive refresh`, `event-archive rebuild` and the Dagster jobs set it'
            ) }}
        {%- endif -%}
        {%- for statement in bookkeeping_tables() -%}
            {%- do run_query(statement) -%}
        {%- endfor -%}
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
            {%- for node in graph.nodes.values() if node.config.materialized == 'incremental' and node.config.meta.level == 'event' -%}
                {%- for stream in inputs_of(node).streams -%}
                    {%- set behind = run_query(
                        'select 1 from event_archive.archive.pinned_snapshot where stream = \'' ~ stream ~ '\' and recent_from > '
                        ~ watermark(node.alias, stream) ~ ' and exists (select 1 from meta.watermarks where model = \'' ~ node.alias ~ '\')'
                    ) -%}
                    {%- if behind.rows -%}
                        {{ exceptions.raise_compiler_error(
                            node.name ~ ' has consumed less of ' ~ stream ~ ' than the recent files of the pinned snapshot begin with'
                        ) }}
                    {%- endif -%}
                {%- endfor -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro bookkeeping_tables() -%}
    {%- do return([
        'create schema if not exists meta',
        'create table if not exists meta.watermarks (model varchar not null, stream varchar not null, commit_version bigint not null)',
        'create table if not exists meta.models (model varchar not null, schema_name varchar not null, materialized varchar not null,'
        ~ ' level varchar, key varchar[], version bigint not null, full_at bigint not null)',
        'create table if not exists meta.inputs (model varchar not null, input varchar not null, version bigint not null, commit_version bigint)',
        'create table if not exists meta.plain_views (view varchar not null)',
        'create table if not exists meta.stale (model varchar not null, reason varchar not null)',
        'create table if not exists meta.asked_days (first_day date not null, last_day date not null)',
        'create table if not exists meta.asked_commits (stream varchar not null, first_commit bigint not null, last_commit bigint not null)',
    ]) -%}
{%- endmacro %}

{#- The watermark of a model as an SQL expression: -1 when it has consumed nothing. -#}
{% macro watermark(model_name, stream=none) -%}
    (
        select coalesce(min(consumed.commit_version), -1)
        from meta.watermarks as consumed
        where consumed.model = '{{ model_name }}'
        {%- if stream %} and consumed.stream = '{{ stream }}'{% endif %}
    )
{%- endmacro %}

{#- The version that this model has after the run that is under way. -#}
{% macro next_version() -%}
    (select coalesce(max(models.version), 0) + 1 from meta.models as models where models.model = '{{ this.identifier }}')
{%- endmacro %}

{#- Whether somebody asked for a range of days, or of commits, instead of what is new. -#}
{% macro asked_for(what) -%}
    {%- do return(execute and run_query('select 1 from meta.asked_' ~ what ~ ' limit 1').rows | length > 0) -%}
{%- endmacro %}

{#- Before each model: when it is computed in full, what its earlier runs have noted is void. -#}
{% macro before_model() -%}
    {%- if execute and model.config.materialized in ('table', 'incremental') -%}
        {%- if model.config.materialized == 'incremental' -%}
            {%- do check_level() -%}
        {%- endif -%}
        {%- if not is_incremental() -%}
        drop table if exists {{ change_log(this.identifier) }};
        update meta.models set full_at = version + 1 where model = '{{ this.identifier }}';
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#-
    After each model, in its transaction: its version, the versions that it holds of what it reads, and how far its rows go. That is as far
    as the least of what it reads: a source goes as far as the pinned snapshot, a table as far as its own watermark, a view as far as
    what it reads. So a run of only some models never makes one believe that it has seen what its inputs have not.

    A run over a range of days or commits has consumed nothing new.
-#}
{% macro after_model() -%}
    {%- if execute and model.resource_type == 'model' -%}
        {%- set inputs = inputs_of(model) -%}
        {%- set streams = quoted_list(inputs.streams) -%}
        {%- set tables = quoted_list(inputs.models) -%}
        {%- set name = this.identifier -%}
        insert into meta.models (model, schema_name, materialized, level, key, version, full_at)
        select
            '{{ name }}', '{{ this.schema }}', '{{ model.config.materialized }}', {{ quoted_or_null(model.config.meta.level) }},
            cast([{{ quoted_list(key_columns(model)) if key_columns(model) }}] as varchar[]),
            coalesce(max(version), 0) + 1, coalesce(max(full_at), 1)
        from meta.models where model = '{{ name }}';
        delete from meta.models where model = '{{ name }}' and version < (select max(version) from meta.models where model = '{{ name }}');
        delete from meta.stale where model = '{{ name }}';
        {%- if model.config.materialized == 'incremental' and model.config.meta.level != 'event' -%}
        create table if not exists {{ change_log(name) }} as
        select *, cast(null as bigint) as change_version, cast(null as boolean) as is_added from {{ this }} limit 0;
        {%- endif -%}
        {%- if not asked_for('days') and not asked_for('commits') -%}
        delete from meta.inputs where model = '{{ name }}';
        delete from meta.watermarks where model = '{{ name }}';
        {%- if inputs.models -%}
        insert into meta.inputs (model, input, version, commit_version)
        select '{{ name }}', models.model, models.version, min(watermarks.commit_version)
        from meta.models as models
        left join meta.watermarks as watermarks on models.model = watermarks.model
        where models.model in ({{ tables }})
        group by models.model, models.version;
        {%- endif -%}
        insert into meta.watermarks (model, stream, commit_version)
        select '{{ name }}', input.stream, min(input.commit_version)
        from (
            {%- if inputs.streams %}
            select pinned.stream, pinned.version as commit_version
            from event_archive.archive.pinned_snapshot as pinned
            where pinned.stream in ({{ streams }})
            {%- endif %}
            {{ 'union all' if inputs.streams and inputs.models }}
            {%- if inputs.models or not inputs.streams %}
            select consumed.stream, consumed.commit_version
            from meta.watermarks as consumed
            where consumed.model in ({{ tables }})
            {%- endif %}
        ) as input
        group by input.stream
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#- What a model reads: streams of the archive, and tables; views are looked through. -#}
{% macro inputs_of(node) -%}
    {%- set found = {'streams': [], 'models': []} -%}
    {%- for input_id in node.depends_on.nodes -%}
        {%- if input_id in graph.sources -%}
            {%- do found.streams.append(graph.sources[input_id].identifier) -%}
        {%- elif input_id in graph.nodes and graph.nodes[input_id].config.materialized in ('table', 'incremental') -%}
            {%- do found.models.append(graph.nodes[input_id].alias) -%}
        {%- elif input_id in graph.nodes -%}
            {%- set behind = inputs_of(graph.nodes[input_id]) -%}
            {%- do found.streams.extend(behind.streams) -%}
            {%- do found.models.extend(behind.models) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return({'streams': found.streams | unique | list, 'models': found.models | unique | list}) -%}
{%- endmacro %}

{#- An incremental model has to say what its rows are, and what it reads has to fit. -#}
{% macro check_level() -%}
    {%- set level = model.config.meta.level -%}
    {%- set inputs = changing_inputs(model) -%}
    {%- if level not in ('event', 'entity', 'day') -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " is incremental and has to say what its rows are: config(meta={'level': 'event'}), 'entity' or 'day'"
        ) }}
    {%- elif level == 'event' -%}
        {%- do the_stream_behind(model.name) -%}
    {%- elif not key_columns(model) -%}
        {{ exceptions.raise_compiler_error(model.name ~ " is of " ~ level ~ " level and has to name its key: config(unique_key='…')") }}
    {%- endif -%}
{%- endmacro %}

{% macro quoted_list(names) -%}
    {%- for name in names | unique %}'{{ name }}'{{ ', ' if not loop.last }}{% else %}null{% endfor -%}
{%- endmacro %}

{% macro quoted_or_null(name) -%}
    {{ "'" ~ name ~ "'" if name else 'null' }}
{%- endmacro %}
