{#-
    Refer to a model without the name of the database. DuckDB names a database after its file, and before 2.0 a view that remembers the
    name of the build's file could not be read once the file is published under another.
-#}
{% macro ref() %}
    {%- do return(builtins.ref(*varargs, **kwargs).include(database=false)) -%}
{% endmacro %}
