"""How dbt is found and run: the resource that starts it, and its environment.

What doesn't live here: what dbt builds (`dbt_project`), what it knows of its project (`dbt_manifest`), and when the result is
published (`assets_warehouse`).
"""

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dagster_dbt import DbtCliResource
from packaging.version import Version

QUIET = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}
"""Nothing phones home, whatever dbt's own default is."""


class DbtCli(DbtCliResource):
    """dagster-dbt's resource without two things that it does before each command and that nothing here uses.

    It asks `dbt --version`, which takes three seconds and looks for news in a package index; and it loads dbt's adapter
    into this process, for row counts and column types, which we read from the published file instead.
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(importlib.metadata.version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Any) -> Any:  # noqa: ARG002 - the signature is dagster-dbt's
        return None


def dbt_resource(project: Path) -> DbtCli:
    """Make the resource that runs dbt in a project, with the profiles that the project brings."""
    return DbtCli(project_dir=str(project), profiles_dir=str(project), dbt_executable=dbt_executable())


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside; `DbtCliResource` takes no others."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dbt_executable() -> str:
    """Name the dbt of this virtual environment; PATH need not have it."""
    beside = Path(sys.executable).with_name("dbt")
    return str(beside) if beside.exists() else "dbt"
