{#-
    How the rows of an incremental run get into a table: `by_commit`, the only strategy here. dbt's own `delete+insert` deletes the keys of the rows
    that it is about to insert: an entity of which nothing is left (a cart that has been emptied) would stay for ever.
-#}
{% macro get_incremental_by_commit_sql(arg_dict) -%}
    {%- set target = arg_dict.target_relation -%}
    {%- set columns = get_quoted_csv(arg_dict.dest_columns | map(attribute='name')) -%}
    {%- if config.get('meta').get('level') == 'event' -%}
    {#- Only ever more rows, each from beyond the watermark. What is there beyond it goes first, so that a run may be repeated. -#}
    delete from {{ target }}
    where commit_version > {{ watermark(this.identifier, the_stream_behind(model.name)) }};
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ arg_dict.temp_relation }}
    {%- else -%}
    {#- What is there of an affected key goes, what was reduced again comes; both are noted for those who read this model. -#}
    {%- set log = change_log(this.identifier) -%}
    insert into {{ log }} ({{ columns }}, change_version, is_added)
    select {{ columns }}, {{ next_version() }}, false from {{ target }} as target where {{ has_affected_key('target') }};
    insert into {{ log }} ({{ columns }}, change_version, is_added)
    select {{ columns }}, {{ next_version() }}, true from {{ arg_dict.temp_relation }};
    delete from {{ target }} as target where {{ has_affected_key('target') }};
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ arg_dict.temp_relation }}
    {%- endif -%}
{%- endmacro %}

{#-
    Whether a model is computed in full, although it is there; dbt asks this before each model. So it is when somebody wants it (--full-refresh), when
    the build says that it is stale (its code is not what made its rows), or when an input was computed in full since: then what
    has changed in that input isn't known.
-#}
{% macro should_full_refresh() -%}
    {%- set wanted = config.get('full_refresh') -%}
    {%- if wanted is none -%}
        {%- set wanted = flags.FULL_REFRESH -%}
    {%- endif -%}
    {%- if not wanted and execute and flags.WHICH in ('run', 'build') and model.config.materialized == 'incremental' -%}
        {%- set inputs = [] -%}
        {%- for table in inputs_of(model).models -%}
            {%- do inputs.append("('" ~ table ~ "')") -%}
        {%- endfor -%}
        {%- set reasons = run_query(
            "select 1 from meta.stale where model = '" ~ this.identifier ~ "'"
            ~ (" union all select 1 from (values " ~ inputs | join(', ') ~ ") as input (model)"
            ~ " left join meta.models as models on input.model = models.model"
            ~ " left join meta.inputs as consumed on consumed.model = '" ~ this.identifier ~ "' and consumed.input = input.model"
            ~ " where consumed.version is null or consumed.version < models.full_at" if inputs else '')
        ) -%}
        {%- set wanted = reasons.rows | length > 0 -%}
    {%- endif -%}
    {%- do return(wanted) -%}
{%- endmacro %}
