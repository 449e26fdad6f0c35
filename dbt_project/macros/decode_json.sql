{#-
    From the bytes of an event to typed columns, by a list of the fields that the event may have; `judged_events` does all of it. Each payload is parsed twice (once for
    the types, once for the texts), whatever the number of fields; `->>` per column would parse it again for each.

    A field is a dictionary:
        name             of the column
        path             in the JSON, if it isn't the name: 'fare.amount_cents'; names with other signs in double quotes: '"e-mail".to'
        type             string, integer, amount (a number, to the cent), number (to nine decimals), boolean, timestamp (RFC 3339 with
                         offset), date (2026-01-31), json (whatever it is, as JSON text)
        required_by      the event types that must have it, or 'all'
        optional_for     the event types that may have it (absent or null otherwise), or 'all'
        schema_version   only in events of that version
        minimum, maximum of an integer or amount
        one_of           the values of a string
-#}

{#-
    Events of a stream that a decoded model hasn't consumed, as a query: columns of the envelope (event_time is source_time, as services have event
    times of their own), a typed column per field, and rejection_reason. For event_types and schema_versions see there.
-#}
{% macro judged_events(stream, fields, event_types=none, schema_versions=none) -%}
    select
        *,
        {{ rejection_reason(fields, event_types, schema_versions) }} as rejection_reason
    from (
        select
            parsed.*,
            {{ typed_fields(fields) }}
        from (
            select
                source_id,
                source_partition,
                source_offset,
                commit_version,
                ingested_at,
                event_time as source_time,
                value,
                payload,
                {{ json_types_and_texts('payload', fields) }}
            from {{ new_events(stream) }}
        ) as parsed
    ) as typed
{%- endmacro %}

{#- The two lists that everything else is read from: `types` and `texts`, one entry per field, in order; the last is the payload's own type. -#}
{% macro json_types_and_texts(payload, fields) -%}
    {%- set paths = [] -%}
    {%- for field in fields -%}
        {%- do paths.append(json_path(field)) -%}
    {%- endfor -%}
    json_type({{ payload }}, [{{ paths | join(', ') }}, '$']) as types,
    json_extract_string({{ payload }}, [{{ paths | join(', ') }}]) as texts
{%- endmacro %}

{#- Where a field is in the payload, as a text in SQL. -#}
{% macro json_path(field) -%}
    {%- do return("'$." ~ (field.path or field.name) | replace("'", "''") ~ "'") -%}
{%- endmacro %}

{#- One typed column per field; a timestamp gives a second one, <name>_utc_offset, as the service wrote it. Null where the text doesn't fit. -#}
{% macro typed_fields(fields) -%}
    {%- for field in fields %}
    {%- set text = 'texts[' ~ loop.index ~ ']' %}
    {%- if field.type == 'string' %}
    {{ text }} as {{ field.name }}
    {%- elif field.type == 'integer' %}
    try_cast({{ text }} as bigint) as {{ field.name }}
    {%- elif field.type == 'amount' %}
    try_cast({{ text }} as decimal(18, 2)) as {{ field.name }}
    {%- elif field.type == 'number' %}
    try_cast({{ text }} as decimal(38, 9)) as {{ field.name }}
    {%- elif field.type == 'boolean' %}
    try_cast({{ text }} as boolean) as {{ field.name }}
    {%- elif field.type == 'date' %}
    case when regexp_full_match({{ text }}, '\d{4}-\d\d-\d\d') then try_cast({{ text }} as date) end as {{ field.name }}
    {%- elif field.type == 'json' %}
    case when types[{{ loop.index }}] <> 'NULL' then cast(json_extract(payload, {{ json_path(field) }}) as varchar) end as {{ field.name }}
    {%- elif field.type == 'timestamp' %}
    {{ rfc3339(text) }} as {{ field.name }},
    case when right({{ text }}, 1) in ('Z', 'z') then 'Z' else right({{ text }}, 6) end as {{ field.name }}_utc_offset
    {%- else %}
    {{ exceptions.raise_compiler_error('field ' ~ field.name ~ ' has no known type') }}
    {%- endif %}
    {%- if not loop.last %},{% endif %}
    {%- endfor %}
{%- endmacro %}

{#- An instant, to the microsecond; null if the text is no RFC 3339 timestamp with an offset. DuckDB's own cast takes much more. -#}
{% macro rfc3339(text) -%}
    case
        when regexp_full_match(
            {{ text }},
            '\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)'
        )
            then try_cast(upper({{ text }}) as timestamptz)
    end
{%- endmacro %}

{#-
    Why an event can't be accepted, as `code` or `code:detail`; null if it can. The first thing that is wrong counts, in this order:
    the bytes, the common fields, what kind of event it is, the fields of that kind. Without event_types all events are of one kind, and without
    schema_versions any version will do.

    Let try(decode(value)) occur once only: DuckDB 2.0 computes what occurs twice beforehand, outside of the try.
-#}
{% macro rejection_reason(fields, event_types=none, schema_versions=none) -%}
    case
        when value is null then 'no_value'
        when payload is null and try(decode(value)) is null then 'not_utf8'
        when payload is null then 'not_json'
        when types[{{ fields | length + 1 }}] <> 'OBJECT' then 'not_an_object'
        {%- for field in fields if field.required_by == 'all' %}
        {{ field_rejections(field, loop_index(fields, field), none) }}
        {%- endfor %}
        {%- if event_types %}
        when event_type not in ({{ quoted_list(event_types) }}) then 'unknown_event_type:' || left(event_type, 64)
        {%- endif %}
        {%- if schema_versions %}
        when schema_version not in ({{ schema_versions | join(', ') }}) then 'unknown_schema_version:' || schema_version
        {%- endif %}
        {%- for field in fields if field.required_by != 'all' %}
        {%- set index = loop_index(fields, field) %}
        {%- set version = 'schema_version = ' ~ field.schema_version ~ ' and ' if field.schema_version else '' %}
        {%- if field.required_by %}
        {{ field_rejections(field, index, version ~ 'event_type in (' ~ quoted_list(field.required_by) ~ ')') }}
        {%- endif %}
        {%- if field.optional_for == 'all' %}
        {{ field_rejections(field, index, none, optional=true) }}
        {%- elif field.optional_for %}
        {{ field_rejections(field, index, version ~ 'event_type in (' ~ quoted_list(field.optional_for) ~ ')', optional=true) }}
        {%- endif %}
        {%- endfor %}
    end
{%- endmacro %}

{#- The branches of one field. -#}
{% macro field_rejections(field, index, condition, optional=false) -%}
    {%- set when = 'when ' ~ (condition ~ ' and ' if condition else '') -%}
    {%- set path = (field.path or field.name) | replace("'", "''") -%}
    {%- set numbers = ['UBIGINT', 'BIGINT', 'DOUBLE'] -%}
    {%- set json_types = {
        'string': ['VARCHAR'], 'timestamp': ['VARCHAR'], 'date': ['VARCHAR'], 'boolean': ['BOOLEAN'],
        'integer': ['UBIGINT', 'BIGINT'], 'amount': numbers, 'number': numbers,
        'json': numbers + ['VARCHAR', 'BOOLEAN', 'OBJECT', 'ARRAY'],
    }[field.type] -%}
    {%- if not optional %}
        {{ when }}types[{{ index }}] is null then 'missing_field:{{ path }}'
    {%- endif %}
        {{ when }}types[{{ index }}] not in ({{ quoted_list(json_types + (['NULL'] if optional else [])) }}) then 'wrong_type:{{ path }}'
    {%- if field.type == 'timestamp' %}
        {{ when }}{{ field.name }} is null{{ ' and texts[' ~ index ~ '] is not null' if optional }} then 'bad_timestamp:{{ path }}'
    {%- elif field.type == 'date' %}
        {{ when }}{{ field.name }} is null{{ ' and texts[' ~ index ~ '] is not null' if optional }} then 'bad_date:{{ path }}'
    {%- elif field.type in ('integer', 'amount', 'number') %}
        {{ when }}{{ field.name }} is null{{ ' and texts[' ~ index ~ '] is not null' if optional }} then 'out_of_range:{{ path }}'
    {%- endif %}
    {%- if field.minimum is defined %}
        {{ when }}{{ field.name }} < {{ field.minimum }} then 'out_of_range:{{ path }}'
    {%- endif %}
    {%- if field.maximum is defined %}
        {{ when }}{{ field.name }} > {{ field.maximum }} then 'out_of_range:{{ path }}'
    {%- endif %}
    {%- if field.one_of %}
        {{ when }}{{ field.name }} not in ({{ quoted_list(field.one_of) }}) then 'unknown_value:{{ path }}'
    {%- endif %}
{%- endmacro %}

{#- Where a field is in the lists, from 1. -#}
{% macro loop_index(fields, field) -%}
    {%- do return((fields | map(attribute='name') | list).index(field.name) + 1) -%}
{%- endmacro %}
