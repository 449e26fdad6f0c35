"""Which statements may be run over the archive: one that reads, from relations that are shown, with functions that only compute.

A statement is judged by its syntax tree, as DuckDB itself gives it, never by its text; what can't be examined is refused.
What doesn't live here: the parts of the tree (`syntax_tree`), and the connection's own locks (`sandbox`).
"""

from __future__ import annotations

import json
import re

import duckdb

from event_archive.errors import QueryRefused
from event_archive.sql.syntax_tree import POSSIBLE, Facts, examine, shown

# Functions that the parser or binder knows and the catalog doesn't list.
_SYNTAX = frozenset({"unnest", "grouping", "grouping_id", "row", "unlist"})
# Not pure, and still only computing.
_IMPURE = frozenset(
    {"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error", "now", "today", "current_date"}
    | {"get_current_time", "get_current_timestamp", "transaction_timestamp"}
    | {"current_schema", "current_schemas", "current_database"}
)
# Pure for DuckDB (1.5 or 2), but they take SQL as text, show settings or definitions, wait, or take apart a state that may be forged.
_NOT_FOR_QUERIES = re.compile(
    r"json_(de)?serialize_.*|pg_(?!typeof$|size_pretty$).*|has_.*_privilege|inet_.*|.*obj_description|col_description"
    r"|get_block_size|current_query|current_setting|getvariable|vector_type|sleep.*|to_aggregate_state|combine|combine_aggr"
    r"|finalize|variant_bytes_to_variant|__internal_.*"
)


def check(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """Give the one statement of a query, if it only reads what analysts may read.

    Args:
        connection: A connection of `sandbox.connect`; relations and functions are looked up in it.
        query: SQL as typed; a semicolon at its end and comments are fine.

    Returns:
        The statement, to be executed on the same connection.

    Raises:
        QueryRefused: Anything else. The text says in one sentence what was refused and what is possible.
    """
    try:
        query.encode()
        statements = connection.extract_statements(query)
    except UnicodeEncodeError as error:
        raise QueryRefused("The query is no valid text in UTF-8.") from error
    except duckdb.Error as error:
        raise QueryRefused(f"The query is no valid SQL: {first_line(error)}") from error
    if not statements:
        raise QueryRefused(f"The query is empty; {POSSIBLE}.")
    if len(statements) > 1:
        raise QueryRefused(f"The query holds {len(statements)} statements; {POSSIBLE}.")
    statement = statements[0]
    kind = _kind(statement)
    if kind != "SELECT":
        raise QueryRefused(
            f"A statement of kind {kind} can't be run over the archive; {POSSIBLE}.{_hint(kind)}"
        )
    facts = Facts(_relations_of(connection))
    try:
        # All rows of it, although it is one: DuckDB 2.0 runs nothing else on a connection with rows left to fetch.
        ((text,),) = connection.execute("select json_serialize_sql(?::varchar)", [query]).fetchall()
        tree = json.loads(text)
        if tree.get("error", True) is not False or len(tree["statements"]) != 1:
            raise QueryRefused(
                f"The statement can't be examined ({tree.get('error_message', 'no syntax tree')}); {POSSIBLE}."
            )
        examine(tree["statements"], facts)
    except duckdb.Error as error:
        raise QueryRefused(f"The statement can't be examined: {first_line(error)}") from error
    except RecursionError as error:
        raise QueryRefused("The query is nested too deep to be examined; split it into CTEs.") from error
    _check_functions(connection, facts.functions)
    return statement


def first_line(error: BaseException, longest: int = 500) -> str:
    """Give the first line of an error's text, cut, since DuckDB quotes data and queries in its errors.

    Args:
        error: Any error.
        longest: How many characters to keep.

    Returns:
        One line without control characters.
    """
    text = str(error).strip().split("\n", 1)[0]
    text = "".join(character if character.isprintable() else " " for character in text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + "…"


def _kind(statement: duckdb.Statement) -> str:
    """Give the kind of a statement in words."""
    try:
        return statement.type.name.replace("_", " ")
    except ValueError:
        # DuckDB 2.0 has kinds that its Python package can't name: UPDATE EXTENSIONS.
        return "unknown to Python"


def _hint(kind: str) -> str:
    """Say how to reach what this kind of statement is mostly wanted for."""
    if kind in {"COPY", "EXPORT"}:
        return " To keep a result, use `--format csv` or `--format json` and redirect the output to a file."
    if kind in {"CREATE", "INSERT", "PREPARE"}:
        return " To name an intermediate result, use WITH."
    if kind == "MULTI":
        return " A PIVOT must name its values: pivot … on column in (…)."
    return ""


def _relations_of(connection: duckdb.DuckDBPyConnection) -> frozenset[tuple[str, str]]:
    """Give schema and name of each relation that is shown, in lower case as DuckDB compares them."""
    rows = connection.execute(
        "select schema_name, view_name from duckdb_views() where database_name = 'memory'"
    ).fetchall()
    return frozenset((schema.lower(), name.lower()) for schema, name in rows if schema in {"main", "archive"})


def _check_functions(connection: duckdb.DuckDBPyConnection, names: set[str]) -> None:
    """Refuse functions that do anything but compute from their arguments."""
    if not names:
        return
    rows = connection.execute(
        "select lower(function_name), function_type, stability, database_name = 'system' from duckdb_functions() "
        "where lower(function_name) in (select unnest(?::varchar[]))",
        [sorted(names)],
    ).fetchall()
    known = {name for name, *_ in rows} | _SYNTAX
    for name in sorted(names):
        if name not in known:
            raise QueryRefused(
                f"There is no function {shown([name])} that a query over the archive could use."
            )
        # Several names are both: range() gives a list, from range() gives rows; the latter are judged as relations.
        kinds = [row[1:] for row in rows if row[0] == name and row[1] not in {"table", "table_macro"}]
        computes = name in _SYNTAX or bool(kinds)
        for kind, stability, is_built_in in kinds:
            is_pure = kind in {"aggregate", "window", "macro"} or (
                kind == "scalar" and (stability == "CONSISTENT" or name in _IMPURE)
            )
            computes = computes and is_built_in and is_pure
        if not computes or _NOT_FOR_QUERIES.fullmatch(name):
            raise QueryRefused(
                f"The function {shown([name])} can't be used; possible are functions that compute from their arguments alone."
            )
