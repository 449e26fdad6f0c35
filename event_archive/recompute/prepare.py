"""What dbt is told in the build's own file before it starts: what is stale, which range is asked for; and what nobody needs any more goes.

What doesn't live here: finding out what there is to do (`plan`), and what dbt makes of it (the models' macros).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import duckdb

from event_archive.recompute.noted_checks import forget_changed_checks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from event_archive.recompute.plan import Plan
    from event_archive.recompute.project import Project


def prepare_file(
    file: Path,
    project: Project,
    plan: Plan,
    *,
    days: tuple[date, date] | None = None,
    commits: Mapping[str, tuple[int, int]] | None = None,
    keeps_digests: bool = True,
) -> None:
    """Write into a build's file, before dbt starts, what it is asked to do; and take out of it what nobody needs any more.

    Args:
        file: The copy of the base.
        project: The models and checks as they are now.
        plan: What to do.
        days: First and last day to compute again, instead of what is new.
        commits: Of each stream the first and last commit whose entities are computed again, instead of what is new.
        keeps_digests: Whether the marts' digests are gone on from. Not by a rebuild: somebody doubts the rows.
    """
    with closing(duckdb.connect(str(file))) as connection:
        leave_checkpoint(connection)
        connection.execute("begin")
        if not keeps_digests:
            connection.execute("drop table if exists main.build_marts")
        connection.execute("delete from meta.stale")
        for model, reason in plan.stale.items():
            connection.execute("insert into meta.stale values (?, ?)", [model, reason])
        for schema, name, materialized in (*plan.gone, *plan.replaced):
            kind = "view" if materialized == "view" else "table"
            connection.execute(f"drop {kind} if exists {_quoted(schema)}.{_quoted(name)}")
            connection.execute(f"drop table if exists meta.{_quoted('changes__' + name)}")
            # Its version stays: should the model come back, what has read it before must not take it for what it knows.
            for table in ("inputs", "watermarks"):
                connection.execute(f"delete from meta.{table} where model = ?", [name])
            connection.execute(
                "update meta.models set full_at = version + 1, version = version + 1 where model = ?", [name]
            )
        forget_changed_checks(connection, project)
        prune_change_logs(connection)
        clear_asked(connection)
        if days is not None:
            connection.execute("insert into meta.asked_days values (?, ?)", list(days))
        for stream, (first, last) in (commits or {}).items():
            connection.execute("insert into meta.asked_commits values (?, ?, ?)", [stream, first, last])
        connection.execute("commit")


def leave_checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave what is written in the log beside the file: whoever opens it next goes on, and a checkpoint of a large file takes a while."""
    connection.execute("pragma disable_checkpoint_on_shutdown")


def clear_asked(connection: duckdb.DuckDBPyConnection) -> None:
    """Forget ranges that were asked for: they were for one run."""
    for table in ("asked_days", "asked_commits"):
        connection.execute(f"delete from meta.{table}")


def prune_change_logs(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove changes that everybody who reads the model has consumed."""
    logs = connection.execute(
        "select table_name from duckdb_tables() where database_name = current_database() and schema_name = 'meta' "
        "and starts_with(table_name, 'changes__')"
    ).fetchall()
    for (log,) in logs:
        connection.execute(
            f"delete from meta.{_quoted(log)} where change_version <= coalesce("
            "(select min(version) from meta.inputs where input = $1), (select max(version) from meta.models where model = $1))",
            [log.removeprefix("changes__")],
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
