"""dbt in the process of a test, which spares it the two seconds of its start; that dbt is a process of its own is tested elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.recompute.dbt import DbtRun, read_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SILENT = ("--quiet", "--log-level", "none", "--log-level-file", "none")


def parse_here(project: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Parses as `manifest_of` does."""
    from dbt.cli.main import dbtRunner

    places = {"project-dir": project, "profiles-dir": project, "target-path": target, "log-path": target}
    where = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    done = dbtRunner().invoke([*_SILENT, "parse", *where])
    return subprocess.CompletedProcess([], 0 if done.success else 1, str(done.exception or ""), "")


def run_dbt_here(
    project: Path, arguments: Sequence[str], *, environment: Mapping[str, str], target: Path, **_: Any
) -> DbtRun:
    """Runs dbt as `run_dbt` does, but for telling how far it is."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    target.mkdir()
    shutil.copy(project / "target" / "partial_parse.msgpack", target)
    errors: list[str] = []

    def note(event: Any) -> None:
        if event.info.level == "error":
            errors.append(event.info.msg)

    places = {"project-dir": project, "profiles-dir": project, "target-path": target}
    where = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        done = dbtRunner(callbacks=[note]).invoke([*_SILENT, *arguments, *where])
        DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    results, invocation_id = read_results(target)
    if done.exception is not None:
        errors.append(str(done.exception))
    return DbtRun(results, tuple(errors), invocation_id, is_success=done.success)
