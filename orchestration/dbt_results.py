"""dbt's nodes as Dagster's assets and checks, and what a run of dbt found: the checks with examples of what failed, and rows.

What doesn't live here: running dbt (`event_archive.recompute.dbt`), and what a run reports of a build (`reporting`).
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DagsterDbtTranslator
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from event_archive.recompute.dbt import DbtRun
from orchestration.days import DayTable
from orchestration.dbt_manifest import day_tables
from orchestration.markdown import markdown_table

_EXAMPLES = 10


@dataclass(frozen=True)
class Models:
    """The models of the dbt project, and which assets and checks they and their tests are."""

    manifest: Mapping[str, Any]
    translator: DagsterDbtTranslator

    @cached_property
    def days(self) -> dict[str, DayTable]:
        """The day level tables, by name."""
        return day_tables(self.manifest)

    def knows(self, unique_id: str) -> bool:
        """Whether dbt's node was there when the manifest was read."""
        return unique_id in self.manifest["nodes"]

    def node(self, unique_id: str) -> Mapping[str, Any]:
        """What dbt knows of a model or a test."""
        found: Mapping[str, Any] = self.manifest["nodes"][unique_id]
        return found

    def table(self, unique_id: str) -> str:
        """The name of a model's table or view."""
        return str(self.node(unique_id)["alias"])

    def key(self, unique_id: str) -> dg.AssetKey:
        """The asset that a model is."""
        return self.translator.get_asset_spec(self.manifest, unique_id, None).key

    def check_key(self, unique_id: str) -> dg.AssetCheckKey | None:
        """The check that a test is; None of a unit test."""
        return get_asset_check_key_for_test(self.manifest, self.translator, unique_id, project=None)

    @cached_property
    def by_key(self) -> dict[dg.AssetKey, str]:
        """The unique id of each model, by its asset."""
        return {
            self.key(unique_id): unique_id
            for unique_id, node in self.manifest["nodes"].items()
            if node["resource_type"] in ("model", "seed", "snapshot")
        }

    @cached_property
    def marts(self) -> dict[str, dg.AssetKey]:
        """The asset of each mart, by its table's name."""
        nodes = ((key, self.node(unique_id)) for key, unique_id in self.by_key.items())
        return {node["alias"]: key for key, node in nodes if node["schema"] == "main"}

    @cached_property
    def tests(self) -> dict[dg.AssetCheckKey, str]:
        """The unique id of each test, by its check."""
        found = {}
        for unique_id, node in self.manifest["nodes"].items():
            key = self.check_key(unique_id) if node["resource_type"] == "test" else None
            if key is not None:
                found[key] = unique_id
        return found


@dataclass(frozen=True)
class Found:
    """What a check found."""

    key: dg.AssetCheckKey
    is_passed: bool
    severity: dg.AssetCheckSeverity
    metadata: Mapping[str, Any]


def check_results(ran: DbtRun, models: Models, file: Path) -> Iterator[Found]:
    """Give what each check of a run of dbt found; of a failed one with some of the rows.

    Args:
        ran: The run.
        models: The models.
        file: The file that dbt worked on.
    """
    for unique_id, result in ran.results.items():
        key = models.check_key(unique_id) if models.knows(unique_id) else None
        if key is None or result["status"] == "skipped":
            continue
        metadata: dict[str, Any] = {"status": result["status"], "unique_id": unique_id}
        if result.get("failures") is not None:
            metadata["rows that failed"] = result["failures"]
        if result["status"] != "pass" and result.get("message"):
            metadata["what dbt says"] = result["message"]
        if (examples := _examples(file, result)) is not None:
            metadata["failing rows"] = dg.MetadataValue.md(examples)
        is_warning = result["status"] == "warn"
        severity = dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR
        yield Found(key, result["status"] == "pass", severity, metadata)


def row_counts(file: Path) -> dict[tuple[str, str], int]:
    """Count the rows of every table of a database file, in one read-only pass.

    Args:
        file: A file that nobody writes.

    Returns:
        Rows by schema and table.
    """
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = current_database()"
        ).fetchall()
        counts = {}
        for schema, table in tables:
            # DuckDB answers this from the table's own statistics.
            relation = ".".join('"' + name.replace('"', '""') + '"' for name in (schema, table))
            counted = connection.execute(f"select count(*) from {relation}").fetchone()
            counts[schema, table] = int(counted[0]) if counted else 0
    return counts


def _examples(file: Path, result: Mapping[str, Any]) -> str | None:
    """Some of the rows that a failed check found, as a Markdown table; None where they can't be had."""
    query = result.get("compiled_code")
    if result.get("status") not in ("fail", "warn") or not query:
        return None
    try:
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            found = connection.execute(f"select * from ({query}) as failing limit {_EXAMPLES}")
            names = [column[0] for column in found.description or ()]
            rows = found.fetchall()
    except duckdb.Error:  # the check reads the archive, which only dbt's own connection sees
        return None
    return markdown_table(names, rows)
