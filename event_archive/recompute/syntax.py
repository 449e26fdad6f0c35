"""The syntax tree of a query, as DuckDB's own parser gives it (`json_serialize_sql`), of 1.5.5 as of 2.0.

What doesn't live here: what is looked for in it (`determinism`, `plain_views`).
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator


def parsed(sql: str) -> Any:
    """The tree of one SELECT; None if it is none, or of a syntax that can't be serialised."""
    answer = _parser().cursor().execute("select json_serialize_sql(?)", [sql]).fetchone()
    tree = json.loads(answer[0]) if answer else {"error": True}
    return None if tree.get("error") else tree["statements"]


def nodes_of(tree: Any, *, within_casts: bool = True) -> Iterator[dict[str, Any]]:
    """All nodes of a tree, each before those below it."""
    if isinstance(tree, list):
        for child in tree:
            yield from nodes_of(child, within_casts=within_casts)
    elif isinstance(tree, dict) and (within_casts or tree.get("class") != "CAST"):
        yield tree
        for child in tree.values():
            yield from nodes_of(child, within_casts=within_casts)


def name_of(node: dict[str, Any]) -> str:
    """The name of a function or of a table, without its schema, in lower case."""
    path = (node.get("qualified_name") or {}).get("path")
    return str(path[-1] if path else node.get("function_name") or node.get("table_name") or "").lower()


def is_qualified(table: dict[str, Any]) -> bool:
    """Whether a table is named with its schema, as dbt names whatever `ref` and `source` give: no CTE is."""
    path = (table.get("qualified_name") or {}).get("path")
    return len(path) > 1 if path else bool(table.get("schema_name"))


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database for its SQL parser; opening one for each query would take longer than all the rest."""
    return duckdb.connect()
