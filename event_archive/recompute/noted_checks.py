"""What a build notes of its checks: which of them hold, of what code they are, and which versions of the tables they have looked at.

With that a refresh checks only what has changed (macros/checks.sql), and unit tests are run once for each state of the code. What
doesn't live here: running the checks (`dbt`).
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from event_archive.recompute.project import Check, Project

_TABLE = "create table if not exists meta.checks (check_id varchar not null, code varchar not null)"


def unit_tests_hold(file: Path, project: Project) -> bool:
    """Whether each of a project's unit tests has passed already, as the file of a build notes: they are of the code alone.

    Args:
        file: Of a finished build.
        project: The models and checks as they are now.
    """
    try:
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            noted = dict(connection.execute("select check_id, code from meta.checks").fetchall())
    except duckdb.Error:  # of an older version, or damaged
        return False
    hashes = project.state_hashes()
    return all(noted.get(check.unique_id) == _code(check, hashes) for check in unit_tests(project))


def unit_tests(project: Project) -> list[Check]:
    """A project's unit tests."""
    return [check for check in project.checks.values() if check.is_unit_test]


def forget_changed_checks(connection: duckdb.DuckDBPyConnection, project: Project) -> None:
    """Forget what is noted of checks that are gone, or whose code or whose tables' code has changed: these look at everything again.

    Args:
        connection: To the file of a build under way, a copy of the one that it goes on from.
        project: The models and checks as they are now.
    """
    connection.execute(_TABLE)
    hashes = project.state_hashes()
    wanted = {name: _code(check, hashes) for name, check in project.checks.items()}
    noted = connection.execute("select check_id, code from meta.checks").fetchall()
    _forget(connection, [name for name, code in noted if wanted.get(name) != code])


def note_checks(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    ran: Iterable[str],
    passed: Iterable[str],
    hashes: Mapping[str, str],
) -> None:
    """Note which checks have passed.

    Args:
        connection: To the file of a build whose tables are complete.
        project: The models and checks.
        ran: Unique ids of all that was run; of checks that didn't pass nothing is noted any more.
        passed: Unique ids of checks.
        hashes: Of each model of the build what its rows are made by.
    """
    connection.execute(_TABLE)
    held = [project.checks[name] for name in passed if name in project.checks]
    _forget(connection, [name for name in ran if name in project.checks])
    _forget(connection, [check.unique_id for check in held])
    for check in held:
        connection.execute("insert into meta.checks values (?, ?)", [check.unique_id, _code(check, hashes)])
        if check.is_unit_test:
            continue
        tables = sorted(set().union(*(project.tables_behind(name) for name in check.inputs)))
        connection.execute(
            "insert into meta.inputs (model, input, version, commit_version) "
            "select $1, models.model, models.version, (select min(marks.commit_version) from meta.watermarks as marks "
            "where marks.model = models.model) from meta.models as models where list_contains($2, models.model)",
            [check.unique_id, tables],
        )


def _code(check: Check, hashes: Mapping[str, str]) -> str:
    """One hash of a check's own code and of all that is behind what it reads; of a unit test, also of what runs it."""
    version = duckdb.__version__ if check.is_unit_test else ""
    parts = [version, check.own_hash, *(f"{name} {hashes.get(name, '')}" for name in sorted(check.inputs))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _forget(connection: duckdb.DuckDBPyConnection, names: list[str]) -> None:
    connection.execute("delete from meta.checks where list_contains(?, check_id)", [names])
    connection.execute("delete from meta.inputs where list_contains(?, model)", [names])
