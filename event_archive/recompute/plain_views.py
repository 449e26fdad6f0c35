"""Which views give each row of what they read once or not at all, with its commit: of these, what is new is known by the commits.

It is told from the syntax tree that DuckDB gives of the SQL that dbt has run. What doesn't live here: who asks for it (the checks of a refresh, in
macros/checks.sql, and `event_archive.warehouse.kept_digests`), and parsing (`syntax`).
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

from event_archive.recompute.determinism import ModelGuesses
from event_archive.recompute.project import NOT_TABLES
from event_archive.recompute.syntax import is_qualified, name_of, nodes_of, parsed

if TYPE_CHECKING:
    from collections.abc import Collection

    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.project import Project

_TABLES = ("BASE_TABLE", "JOIN", "SUBQUERY", "EMPTY", "EXPRESSION_LIST")
_PLAIN_JOINS = ("REGULAR", "CROSS")


def note_plain_views(connection: duckdb.DuckDBPyConnection, project: Project, ran: DbtRun) -> None:
    """Note, of the views that dbt has built, which of them are plain.

    Args:
        connection: To the file of a build whose tables are complete.
        project: The models, each after those that it reads.
        ran: What dbt did.

    Raises:
        ModelGuesses: An incremental model reads one that isn't: it would not see that old rows have changed.
    """
    connection.execute("create table if not exists meta.plain_views (view varchar not null)")
    plain = {view for (view,) in connection.execute("select view from meta.plain_views").fetchall()}
    gone = plain - {model.name for model in project.models.values() if model.materialized == "view"}
    plain -= gone
    for model in project.models.values():
        if model.materialized != "view":
            continue
        sql = ran.results.get(model.unique_id, {}).get("compiled_code")
        if sql:
            plain.discard(model.name)
            changing = {name for name in project.models if project.streams_of(name)}
            read = set(model.inputs) & changing
            behind = all(
                name in plain or project.models[name].materialized not in NOT_TABLES for name in read
            )
            shows = _columns(connection, model.schema, model.name)
            if not model.streams and behind and "commit_version" in shows and is_plain(sql, changing):
                plain.add(model.name)
            else:
                _refuse_readers(project, model.name)
    connection.execute("delete from meta.plain_views")
    for view in sorted(plain):
        connection.execute("insert into meta.plain_views values (?)", [view])


def _refuse_readers(project: Project, view: str) -> None:
    for reader in project.models.values():
        if view in reader.inputs and reader.materialized == "incremental" and project.streams_of(view):
            raise ModelGuesses(
                f"The published tables stay as they were: {reader.name} reads the view {view}, of which a new event may change old rows (it has a window, "
                f"a group, a join with itself or a subquery); make {view} an incremental model of entity level, or {reader.name} a table."
            )


def is_plain(sql: str, changing: Collection[str]) -> bool:
    """Whether a query gives each row of the one changing relation that it reads once or not at all, whatever the others are.

    Args:
        sql: One SELECT, as dbt has compiled it.
        changing: Names of relations that a stream is behind.
    """
    tree = parsed(sql)
    if tree is None:
        return False
    nodes = list(nodes_of(tree))
    ctes = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
    tables: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            name = name_of(node)
            # A CTE may have the name of what it reads.
            (parts if name in ctes and not is_qualified(node) else tables)[name] += 1
        if not _is_plain_node(node):
            return False
    return sum(tables[name] for name in changing) == 1 and all(reads <= 1 for reads in parts.values())


def _is_plain_node(node: dict[str, Any]) -> bool:
    if "from_table" in node:
        has_more = (
            node.get("group_expressions") or node.get("having") or node.get("qualify") or node.get("sample")
        )
        return node.get("type") == "SELECT_NODE" and not has_more and not node.get("modifiers")
    if node.get("type") == "JOIN":
        return node.get("ref_type") in _PLAIN_JOINS and node.get("join_type") in ("INNER", "LEFT")
    if node.get("class") in ("WINDOW", "SUBQUERY"):
        return False
    if node.get("class") == "FUNCTION":
        return name_of(node) not in _aggregates()
    return node.get("type") not in (
        "SET_OPERATION_NODE",
        "RECURSIVE_CTE_NODE",
        "CTE_NODE",
        "TABLE_FUNCTION",
        "PIVOT",
    )


@cache
def _aggregates() -> frozenset[str]:
    with duckdb.connect() as connection:
        found = connection.execute(
            "select distinct function_name from duckdb_functions() where function_type = 'aggregate'"
        ).fetchall()
    return frozenset(name for (name,) in found)


def _columns(connection: duckdb.DuckDBPyConnection, schema: str, view: str) -> set[str]:
    found = connection.execute(
        "select column_name from duckdb_columns() where database_name = current_database() and schema_name = ? and table_name = ?",
        [schema, view],
    ).fetchall()
    return {name for (name,) in found}
