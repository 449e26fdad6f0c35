{#-
    What an incremental model reads. What is new is told by commits and by what runs have changed, never by a clock or an event time.

    A model's `level`, in its meta, says what its rows are:
        event     one row per archived event, each with its commit_version; rows are only ever added. It reads `new_events`.
        entity    rows that have the same key (`unique_key`, a column or a list of them) are made of the rows of its inputs that
                  have that key too, and of nothing else. It reads `history`.
        day       as entity, where the key is a day, or begins with one: days can be asked for.
    A view over one event level model is event level.
-#}

{#- Events of a stream of the archive that this event level model has not consumed: all of them when it is built in full. -#}
{% macro new_events(stream) -%}
    {%- if is_incremental() -%}
    (
        select * from {{ source('event_archive', stream).include(schema=false, identifier=false) }}.recent.{{ stream }}
        where commit_version > {{ watermark(this.identifier, stream) }}
    )
    {%- else -%}
    {{ source('event_archive', stream) }}
    {%- endif -%}
{%- endmacro %}

{#-
    The rows of an input that this model has to reduce (again): all of them when it is built in full, else all that have an affected key. An
    event level model gets the rows that it hasn't consumed.
-#}
{% macro history(model_name) -%}
    {%- if is_incremental() -%}
    (
        select input.* from {{ ref(model_name) }} as input
        where
        {%- if model.config.meta.level == 'event' %}
            input.commit_version > {{ watermark(this.identifier, the_stream_behind(model_name)) }}
        {%- else %}
            {{ has_affected_key('input') }}
        {%- endif %}
    )
    {%- else -%}
    {{ ref(model_name) }}
    {%- endif -%}
{%- endmacro %}

{#- Whether a row has an affected key, as a condition. Null is a key like any other. -#}
{% macro has_affected_key(alias) -%}
    exists (
        select 1 from ({{ affected_keys() }}) as affected
        where
        {%- for column in affected_columns() %}
            {{ 'and ' if not loop.first }}affected.{{ column }} is not distinct from {{ alias }}.{{ column }}
        {%- endfor %}
    )
{%- endmacro %}

{#-
    Keys of this model of which an input has changed since the model consumed it, as a query. An event level input changes by the events
    of later commits; another by the rows that its runs have removed and added.

    When a range of days was asked for, it is those days. When a range of commits was asked for, it is the keys of its events.
-#}
{% macro affected_keys() -%}
    {%- set columns = affected_columns() | join(', ') -%}
    {%- if is_of_asked_days() -%}
    select cast(days.day as date) as {{ columns }}
    from meta.asked_days as asked, generate_series(asked.first_day, asked.last_day, interval '1 day') as days (day)
    {%- else -%}
    {%- for input in changing_inputs(model) %}
    {%- if not loop.first %} union {% endif %}
    {%- if input.level == 'event' and asked_for('commits') %}
    select {{ columns }} from {{ ref(input.name) }}
    where
        commit_version between
        (select first_commit from meta.asked_commits where stream = '{{ the_stream_behind(input.name) }}')
        and (select last_commit from meta.asked_commits where stream = '{{ the_stream_behind(input.name) }}')
    {%- elif input.level == 'event' %}
    select {{ columns }} from {{ ref(input.name) }}
    where commit_version > {{ consumed(input.table, 'commit_version') }}
    {%- else %}
    select {{ columns }} from {{ change_log(input.table) }}
    where change_version > {{ consumed(input.table, 'version') }}
    {%- endif %}
    {%- endfor %}
    {%- endif %}
{%- endmacro %}

{#- The columns that `affected_keys` gives: those of the key, or its day if somebody asked for days. -#}
{% macro affected_columns() -%}
    {%- do return(key_columns(model)[:1] if is_of_asked_days() else key_columns(model)) -%}
{%- endmacro %}

{% macro is_of_asked_days() -%}
    {%- do return(model.config.meta.level == 'day' and asked_for('days')) -%}
{%- endmacro %}

{% macro key_columns(node) -%}
    {%- set key = node.config.unique_key -%}
    {%- do return([key] if key is string else (key or [])) -%}
{%- endmacro %}

{#- Up to which version, or commit, of an input this model's rows hold it, or a check has looked at it; -1 when it has consumed nothing. -#}
{% macro consumed(input_table, what, by=none) -%}
    (
        select coalesce(min(inputs.{{ what }}), -1)
        from meta.inputs as inputs
        where inputs.model = '{{ by or this.identifier }}' and inputs.input = '{{ input_table }}'
    )
{%- endmacro %}

{#- What the runs of an entity or day level model have removed and added, since it was last built in full. -#}
{% macro change_log(model_name) -%}
    meta.changes__{{ model_name }}
{%- endmacro %}

{#-
    The direct inputs of a model that change, as a list of {name, table, level}: `table` is the model whose rows they are, `level` its level.
    Inputs that no stream is behind, such as a list of constants, don't change; when their code does, the model is built in full.
-#}
{% macro changing_inputs(node) -%}
    {%- set found = [] -%}
    {%- for input_id in node.depends_on.nodes if input_id in graph.nodes -%}
        {%- set input = graph.nodes[input_id] -%}
        {%- set tables = tables_behind(input) -%}
        {%- if streams_behind(input, []) -%}
            {%- set level = graph.nodes[tables[0]].config.meta.level -%}
            {%- if tables | length != 1 or not level or (level != 'event' and tables[0] != input_id) -%}
                {{ exceptions.raise_compiler_error(
                    node.name ~ ' is incremental and reads ' ~ input.name ~ ', of which nobody knows what has changed: it has to be an incremental'
                    ~ ' model, or a view over one event level model. Make it one, or make ' ~ node.name ~ ' a table'
                ) }}
            {%- endif -%}
            {%- do found.append({'name': input.name, 'table': graph.nodes[tables[0]].alias, 'level': level}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(found) -%}
{%- endmacro %}

{#- Ids of the changing tables whose rows a model gives: itself, or for a view what it reads. -#}
{% macro tables_behind(node) -%}
    {%- if node.config.materialized in ('table', 'incremental') -%}
        {%- do return([node.unique_id]) -%}
    {%- endif -%}
    {%- set found = [] -%}
    {%- for input_id in node.depends_on.nodes if input_id in graph.nodes and streams_behind(graph.nodes[input_id], []) -%}
        {%- do found.extend(tables_behind(graph.nodes[input_id])) -%}
    {%- endfor -%}
    {%- do return(found | unique | list) -%}
{%- endmacro %}

{#- The one stream that a model is made of. Commits of different streams can't be compared, so rows of two have no common watermark. -#}
{% macro the_stream_behind(model_name) -%}
    {%- set streams = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == model_name -%}
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
        {%- elif input_id in graph.nodes -%}
            {%- do streams_behind(graph.nodes[input_id], found) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(found) -%}
{%- endmacro %}
