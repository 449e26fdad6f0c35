"""Judges a statement's syntax tree: which kinds of query, relation and expression it may be made of, and which tables it may name.

All lists are lists of what is allowed: a kind of node that isn't known here is refused, whatever a newer DuckDB may bring. The tree is the one that
DuckDB gives itself (`json_serialize_sql`), of version 1.5 or 2. What doesn't live here: which functions may be used (`statements`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from event_archive.errors import QueryRefused

# The name under which the published warehouse is attached; no query may say it.
WAREHOUSE = "published_warehouse"

POSSIBLE = "possible is one statement that reads: SELECT, FROM, VALUES, WITH … SELECT, DESCRIBE, SUMMARIZE or SHOW TABLES"
_SCHEMAS = ("main", "archive", "information_schema")
# The catalog's own view of views holds their definitions, and these the paths of files.
_INFORMATION = frozenset({"tables", "columns", "schemata"})
_SHOWS = frozenset({"tables", "__show_tables_expanded"})

_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_RELATIONS = frozenset(
    {
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "TABLE_FUNCTION",
        "EXPRESSION_LIST",
        "EMPTY",
        "EMPTY_FROM",
        "SHOW_REF",
        "PIVOT",
    }
)
_MODIFIERS = frozenset(
    {"ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"}
    | {"ORDER_DEFAULT", "ASCENDING", "DESCENDING", "INVALID"}
)
_EXPRESSIONS = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "LAMBDA_REF",
    }
    | {"OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW"}
)
_TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "repeat_row", "test_all_types"}
    | {"icu_calendar_names", "pg_timezone_names"}
)
_LONGEST_NAME_SHOWN = 80


@dataclass(frozen=True)
class Facts:
    """What can be read, and which functions a tree uses."""

    relations: frozenset[tuple[str, str]]
    functions: set[str] = field(default_factory=set)


def examine(tree: Any, facts: Facts) -> None:
    """Refuse whatever isn't known to be harmless in a syntax tree.

    Args:
        tree: A statement, or any part of it, as parsed JSON.
        facts: The schema and name of each relation that may be read, in lower case; the functions' names are added to it.

    Raises:
        QueryRefused: The text names the part.
    """
    _walk(tree, frozenset(), facts)


def shown(path: list[str]) -> str:
    """Write a qualified name for a sentence: quoted, printable, cut.

    Args:
        path: The name's parts.

    Returns:
        The name in quotes.
    """
    name = "".join(character if character.isprintable() else " " for character in ".".join(path))
    return f"“{name}”" if len(name) <= _LONGEST_NAME_SHOWN else f"“{name[:_LONGEST_NAME_SHOWN]}…”"


def _walk(node: Any, ctes: frozenset[str], facts: Facts) -> None:
    if isinstance(node, list):
        for child in node:
            _walk(child, ctes, facts)
    elif isinstance(node, dict):
        if isinstance(node.get("class"), str):
            children = _examine_expression(node, facts)
        elif isinstance(node.get("type"), str):
            children, ctes = _examine_part(node, ctes, facts)
        else:
            children = node
        for child in children.values():
            _walk(child, ctes, facts)


def _examine_expression(node: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Refuse an expression of unknown kind; give what is to be examined below it."""
    kind = node["class"]
    if kind == "PARAMETER":
        raise _refused("A parameter (? or $1)")
    if kind not in _EXPRESSIONS:
        raise _refused(f"An expression of kind {kind}")
    if kind == "CONSTANT":
        return {}
    if kind == "FUNCTION" or node["type"] == "WINDOW_AGGREGATE":
        path = _path(node, "function_name")
        # Methods look like qualified names (column.upper()), so only this one is known to be none.
        if WAREHOUSE in [part.lower() for part in path]:
            raise _refused(f"The function {shown(path)}")
        facts.functions.add(path[-1].lower())
    return node


def _examine_part(
    node: dict[str, Any], ctes: frozenset[str], facts: Facts
) -> tuple[dict[str, Any], frozenset[str]]:
    """Refuse a query or relation of unknown kind; give what is to be examined below it, and the names known there."""
    kind = node["type"]
    if kind in _QUERIES:
        return node, ctes | _cte_names(node)
    if kind in _RELATIONS:
        _check_relation(node, kind, ctes, facts)
        if kind == "TABLE_FUNCTION":
            # The function's own node would be looked up among scalar functions.
            node = {**node, "function": {**node["function"], "class": None, "type": None}}
    elif kind not in _MODIFIERS and not kind.endswith("_TYPE_INFO"):
        raise _refused(f"A part of kind {kind.removesuffix('_NODE').removesuffix('_QUERY')}")
    return node, ctes


def _check_relation(node: dict[str, Any], kind: str, ctes: frozenset[str], facts: Facts) -> None:
    """Refuse a relation that isn't shown, and a table function that reads anything else."""
    if kind == "TABLE_FUNCTION":
        path = _path(node["function"], "function_name")
        if len(path) > 1 or path[0].lower() not in _TABLE_FUNCTIONS:
            raise QueryRefused(
                f"The table function {shown(path)} can't be used; tables are read by name, and of table functions possible are "
                f"{', '.join(sorted(_TABLE_FUNCTIONS))}."
            )
    elif kind == "BASE_TABLE":
        if node.get("at_clause"):
            raise _refused("A table at another version (AT)")
        _check_table(_path(node, "table_name"), ctes, facts)
    elif kind == "SHOW_REF" and not node.get("query"):
        path = [part for part in _path(node, "table_name") if part]
        if node.get("show_type") == "SHOW_FROM":
            if len(path) != 1 or path[0].lower() not in {"main", "archive"}:
                raise QueryRefused(
                    f"SHOW TABLES FROM {shown(path)} can't be used; possible are SHOW TABLES FROM main and archive."
                )
        elif node.get("show_type") in {"SHOW_SPECIAL", "SHOW_UNQUALIFIED"}:
            if len(path) != 1 or path[0].strip('"').lower() not in _SHOWS:
                raise QueryRefused(
                    f"SHOW {shown(path)} can't be used; possible are SHOW TABLES and SHOW ALL TABLES."
                )
        else:
            _check_table(path, ctes, facts)


def _check_table(path: list[str], ctes: frozenset[str], facts: Facts) -> None:
    """Refuse a table that isn't shown."""
    lower = [part.lower() for part in path]
    if len(lower) == 1 and (lower[0] in ctes or ("main", lower[0]) in facts.relations):
        return
    schema_and_name_parts = 2
    if len(lower) == schema_and_name_parts:
        schema, name = lower
        if (schema, name) in facts.relations or (schema == "information_schema" and name in _INFORMATION):
            return
    if len(lower) > schema_and_name_parts or (
        len(lower) == schema_and_name_parts and lower[0] not in _SCHEMAS
    ):
        raise QueryRefused(
            f"{shown(path)} can't be read; possible are the marts by their name, archive.<stream> and information_schema."
        )
    marts = ", ".join(sorted(name for schema, name in facts.relations if schema == "main"))
    streams = ", ".join(sorted(f"archive.{name}" for schema, name in facts.relations if schema == "archive"))
    raise QueryRefused(
        f"There is no table {shown(path)}, and files can't be read by their path; possible are "
        f"{streams or 'no streams (nothing is archived)'}, and the marts {marts or '(none is published)'}."
    )


def _cte_names(node: dict[str, Any]) -> frozenset[str]:
    """Give the names that this query gives to its parts."""
    names = [entry["key"] for entry in node.get("cte_map", {}).get("map", [])]
    if node.get("cte_name"):
        names.append(node["cte_name"])
    for name in names:
        # A name that could be a file is one as soon as it is used where the CTE isn't in scope.
        if not re.fullmatch(r"[\w $-]+", name):
            raise QueryRefused(
                f"The name {shown([name])} can't be given to a part of a query; use letters, digits and _."
            )
    return frozenset(name.lower() for name in names)


def _path(node: dict[str, Any], name_key: str) -> list[str]:
    """Give the qualified name of a relation or function: DuckDB 2 writes one path, 1.5 three keys."""
    path = (node.get("qualified_name") or {}).get("path")
    if path:
        return [str(part) for part in path]
    parts = [
        node.get("catalog_name") or node.get("catalog"),
        node.get("schema_name") or node.get("schema"),
        node.get(name_key),
    ]
    return [str(part) for part in parts if part] or [""]


def _refused(what: str) -> QueryRefused:
    return QueryRefused(f"{what} can't be part of a query over the archive; {POSSIBLE}.")
