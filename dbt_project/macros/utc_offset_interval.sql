{#- An offset as RFC 3339 writes it (Z, +05:30, -05:00) as an interval. -#}
{% macro utc_offset_interval(utc_offset) -%}
    to_minutes(case
        when {{ utc_offset }} = 'Z' then 0
        else
            (case when left({{ utc_offset }}, 1) = '-' then -1 else 1 end)
            * (60 * cast(substr({{ utc_offset }}, 2, 2) as integer) + cast(right({{ utc_offset }}, 2) as integer))
    end)
{%- endmacro %}
