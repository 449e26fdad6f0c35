{#-
    What a check has to look at. In a refresh that is what has changed since the check last passed: it consumes tables as a model does, by
    the versions and commits that `meta.inputs` notes of it (once a build is complete; see recompute/noted_checks.py). It looks at everything
    when nothing is noted of it (it is new, or its code or that of what it reads has changed), when a table that it reads was computed in full since,
    when it has missed a run, and when it warned the last time.
-#}

{#- The rows of a model that a check of single rows has to look at. For checks of one's own, in the place of ref(). -#}
{% macro changed(model_name) -%}
    {#- Of a check that reads more than this model, nobody knows which rows of the one what has changed in the other is about. -#}
    {%- if looks_at_changes() and model.depends_on.nodes | length == 1 -%}
    {{ changed_rows(ref(model_name), graph.nodes[model.depends_on.nodes[0]]) }}
    {%- else -%}
    (select * from {{ ref(model_name) }})
    {%- endif -%}
{%- endmacro %}

{#-
    dbt calls this for the rows that a generic test reads. A test of single rows gets those that have changed; of uniqueness, all that may be equal
    to one of them; of a reference, also those that refer to what has gone. Any other test gets all rows: what it says of them isn't known.
-#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where') or '' -%}
    {%- set changes = none -%}
    {%- if execute and model.resource_type == 'test' and model.test_metadata and is_of_one_row(where) and looks_at_changes() -%}
        {%- set changes = rows_to_check(relation, graph.nodes[model.attached_node], model.test_metadata) -%}
    {%- endif -%}
    {%- if changes or where -%}
        {%- set rows = changes ~ ' as ' ~ adapter.quote(relation.identifier) if changes else relation -%}
        {%- do return('(select * from ' ~ rows ~ (' where ' ~ where if where else '') ~ ') dbt_subquery') -%}
    {%- else -%}
        {%- do return(relation) -%}
    {%- endif -%}
{%- endmacro %}

{#- Whether a condition says something of a row by its columns and constants alone: neither by a clock nor by other rows. -#}
{% macro is_of_one_row(condition) -%}
    {%- do return(
        modules.re.fullmatch("[\\w\\s.<>=!'\"-]*", condition) is not none
        and modules.re.search("(?i)\\b(from|table|values|select|qualify|now|today|current_\\w+|local\\w+)\\b", condition) is none
    ) -%}
{%- endmacro %}

{#- The rows that a generic test has to look at in the place of a relation; none if those are all. -#}
{% macro rows_to_check(relation, node, test) -%}
    {%- set changes = changed_rows(relation, node) -%}
    {%- set arguments = test.kwargs -%}
    {%- set columns = arguments.columns or arguments.combination_of_columns or [arguments.column_name] -%}
    {%- set field = arguments.field or columns[0] -%}
    {%- for column in columns + [field] if not modules.re.fullmatch('\\w+', column | string) -%}
        {%- do return(none) -%}
    {%- endfor -%}
    {%- if arguments.quote_columns or not is_known(test, arguments) -%}
        {%- do return(none) -%}
    {%- elif test.name in ('not_null', 'accepted_values', 'is_at_least') -%}
        {%- do return(changes) -%}
    {%- elif test.name in ('unique', 'unique_combination', 'unique_combination_of_columns') -%}
        {%- if level_of(node) != 'event' and key_columns(node) | reject('in', columns) | list == [] -%}
            {#- Rows of other keys can't be equal. -#}
            {%- do return(changes) -%}
        {%- endif -%}
        {%- do return(rows_like(relation, columns, changes, columns)) -%}
    {%- elif test.name == 'relationships' -%}
        {%- set others = model.depends_on.nodes | reject('equalto', node.unique_id) | list -%}
        {%- for parent_id in others or [node.unique_id] if level_of(graph.nodes[parent_id]) != 'event' -%}
            {%- set gone = '(select * from ' ~ change_log(graph.nodes[parent_id].alias) ~ ' where not is_added and change_version > '
                ~ seen_by_check(graph.nodes[parent_id].alias, 'version') ~ ')' -%}
            {%- do return(
                '(select * from ' ~ changes ~ ' union all by name select * from '
                ~ rows_like(relation, columns, gone, [field]) ~ ')'
            ) -%}
        {%- endfor -%}
        {%- do return(changes) -%}
    {%- endif -%}
    {%- do return(none) -%}
{%- endmacro %}

{#- Whether a test is the one that its name says, and its arguments are constants. -#}
{% macro is_known(test, arguments) -%}
    {%- if test.name in ('not_null', 'unique', 'accepted_values', 'relationships') -%}
        {%- set is_dbts = 'macro.dbt.test_' ~ test.name in model.depends_on.macros -%}
        {%- do return(is_dbts and arguments.quote is not false) -%}
    {%- elif test.name == 'unique_combination_of_columns' -%}
        {%- do return('macro.dbt_utils.test_unique_combination_of_columns' in model.depends_on.macros) -%}
    {%- elif test.name == 'is_at_least' -%}
        {%- do return(arguments.minimum is number) -%}
    {%- endif -%}
    {%- do return(test.name == 'unique_combination') -%}
{%- endmacro %}

{#- What has been added to a model since the check that is under way last passed. -#}
{% macro changed_rows(relation, node) -%}
    {%- set table = graph.nodes[tables_behind(node)[0]].alias -%}
    {%- if level_of(node) == 'event' -%}
    (select * from {{ relation }} where commit_version > {{ seen_by_check(table, 'commit_version') }})
    {%- else -%}
    (
        select * exclude (change_version, is_added) from {{ change_log(node.alias) }}
        where is_added and change_version > {{ seen_by_check(table, 'version') }}
    )
    {%- endif -%}
{%- endmacro %}

{#- Up to which version, or commit, of a table the check that is under way has seen it. -#}
{% macro seen_by_check(table, what) -%}
    {%- do return(consumed(table, what, model.unique_id)) -%}
{%- endmacro %}

{#- The rows of a relation that have the values of others. -#}
{% macro rows_like(relation, columns, others, columns_of_others) -%}
    (
        select * from {{ relation }} as those
        where exists (
            select 1 from {{ others }} as others
            where
            {%- for column in columns %}
                {{ 'and ' if not loop.first }}those.{{ column }} is not distinct from others.{{ columns_of_others[loop.index0] }}
            {%- endfor %}
        )
    )
{%- endmacro %}

{#- Whether the check that is under way need only look at what has changed since it last passed. -#}
{% macro looks_at_changes(of_streams_too=false, of_tables_alone=false) -%}
    {%- if not execute or flags.WHICH != 'build' or model.resource_type != 'test' -%}
        {%- do return(false) -%}
    {%- endif -%}
    {%- set test = model.config -%}
    {%- if (
        test.error_if | replace(' ', '') != '!=0' or test.warn_if | replace(' ', '') != '!=0' or test.limit
        or test.fail_calc != 'count(*)' or "'" in model.unique_id
    ) -%}
        {%- do return(false) -%}
    {%- endif -%}
    {%- set tables = [] -%}
    {%- for input_id in model.depends_on.nodes -%}
        {%- if input_id in graph.nodes and streams_behind(graph.nodes[input_id], []) -%}
            {%- do tables.extend(tables_behind(graph.nodes[input_id])) -%}
            {%- if not level_of(graph.nodes[input_id]) or (of_tables_alone and tables_behind(graph.nodes[input_id]) != [input_id]) -%}
                {%- do return(false) -%}
            {%- endif -%}
        {%- elif not (of_streams_too and input_id in graph.sources) -%}
            {%- do return(false) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set names = [] -%}
    {%- for table_id in tables -%}
        {%- do names.append("('" ~ graph.nodes[table_id].alias ~ "')") -%}
    {%- endfor -%}
    {%- set reasons = run_query(
        "select 1 from (values " ~ names | join(', ') ~ ") as input (model)"
        ~ " left join meta.models as models on models.model = input.model"
        ~ " left join meta.inputs as consumed on consumed.model = '" ~ model.unique_id ~ "' and consumed.input = input.model"
        ~ " where consumed.version is null or consumed.version < models.full_at or models.version > consumed.version + 1"
        ~ " or models.version is null"
    ) if names else none -%}
    {%- do return(reasons is not none and reasons.rows | length == 0) -%}
{%- endmacro %}

{#-
    The level of a model whose changes are noted; of a view that gives rows of one event level model, one for one, that is event; none if nobody
    knows what has changed in it.
-#}
{% macro level_of(node) -%}
    {%- set tables = tables_behind(node) -%}
    {%- set config = node.config -%}
    {%- if config.materialized == 'incremental' -%}
        {#- A hook of one's own may write what no log tells of. -#}
        {%- set is_noted = config.incremental_strategy == 'by_commit' and config['pre-hook'] | length == 1 and config['post-hook'] | length == 1 -%}
        {%- do return(config.meta.level if is_noted else none) -%}
    {%- elif config.materialized == 'view' and tables | length == 1 and level_of(graph.nodes[tables[0]]) == 'event' -%}
        {%- set plain = run_query("select 1 from meta.plain_views where view = '" ~ node.alias ~ "'") -%}
        {%- do return('event' if plain.rows | length else none) -%}
    {%- endif -%}
    {%- do return(none) -%}
{%- endmacro %}

{#- dbt's own test of uniqueness, which groups by the column itself. -#}
{% macro duckdb__test_unique(model, column_name) %}
select {{ column_name }} as unique_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null and {{ may_be_twice(model, [column_name]) }}
group by {{ column_name }}
having count(*) > 1
{% endmacro %}

{#-
    Whether more than one row has the hash of this one's columns: a table of hashes takes half of the time, and less of the memory, that one of texts
    takes. Whether the rows are equal has to be asked then, of a few. Not of a query, which would be asked twice.
-#}
{% macro may_be_twice(rows, columns) -%}
    {%- set hash = 'hash(' ~ columns | join(', ') ~ ')' -%}
    {{ 'true' if rows is string else hash ~ ' in (select ' ~ hash ~ ' from ' ~ rows ~ ' group by 1 having count(*) > 1)' }}
{%- endmacro %}
