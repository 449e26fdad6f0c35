{#-
    How the rows of an incremental run get into a table. dbt's own `delete+insert` deletes the keys of the rows that it is about to
    insert: an entity of which nothing is left (a cart that has been emptied) would stay for ever.
-#}

{#- Entity level: what is there of an affected entity goes, what was reduced again comes. -#}
{% macro get_incremental_replace_entities_sql(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict.dest_columns | map(attribute='name')) -%}
    delete from {{ arg_dict.target_relation }}
    where {{ arg_dict.unique_key }} in ({{ affected_entities() }});
    insert into {{ arg_dict.target_relation }} ({{ columns }})
    select {{ columns }} from {{ arg_dict.temp_relation }}
{%- endmacro %}

{#- Event level, one stream: only ever more rows, each from beyond the watermark. What is there beyond it goes first, so that a run may be repeated. -#}
{% macro get_incremental_append_events_sql(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict.dest_columns | map(attribute='name')) -%}
    delete from {{ arg_dict.target_relation }}
    where commit_version > {{ watermark(this.identifier, the_stream_behind(this.identifier)) }};
    insert into {{ arg_dict.target_relation }} ({{ columns }})
    select {{ columns }} from {{ arg_dict.temp_relation }}
{%- endmacro %}
