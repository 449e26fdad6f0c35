{#- Schemas are the layers' names as they are: staging, intermediate, and main for the marts. dbt would put the target's before them. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
