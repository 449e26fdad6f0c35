"""What a dbt run came to: the models that it built, its checks with examples of what failed, and the one sentence if it failed.

What doesn't live here: starting dbt (`dbt_cli`) and publishing what it built (`assets_warehouse`).
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg
import duckdb
from dagster_dbt import DbtCliInvocation

from orchestration.markdown import markdown_table

CheckEvents: TypeAlias = dg.AssetCheckResult | dg.AssetObservation

_EXAMPLES = 10
_NAMED = 3
_KEPT = "The published tables stay as they were: "
_FAILED = ("error", "fail", "runtime error")


@dataclass(frozen=True)
class DbtOutcome:
    """What a run of dbt came to.

    Attributes:
        built: Each model that was built, as Dagster's output and as dbt's node.
        checks: The result of each test; a failed one with some of the rows that it found.
        failure: One sentence if the run failed, else None.
    """

    built: list[tuple[dg.Output[None], Mapping[str, Any]]]
    checks: list[CheckEvents]
    failure: str | None


def follow(invocation: DbtCliInvocation, context: dg.AssetExecutionContext, build_file: Path) -> DbtOutcome:
    """Follow a run of dbt to its end; what dbt says meanwhile goes to the step's own output.

    Nothing is handed on before the end: Dagster would take a model for materialised although its build is then thrown away, and
    a check for one of the tables published before.
    """
    built: list[tuple[dg.Output[None], Mapping[str, Any]]] = []
    checks: list[tuple[str, CheckEvents]] = []
    errors: list[str] = []
    for event in invocation.stream_raw_events():
        if event.raw_event["info"]["level"] == "error":
            errors.append(event.raw_event["info"]["msg"])
        for made in event.to_default_asset_events(
            invocation.manifest, invocation.dagster_dbt_translator, context, invocation.target_path
        ):
            node_id = event.raw_event["data"]["node_info"]["unique_id"]
            if isinstance(made, dg.Output):
                built.append((made, invocation.manifest["nodes"][node_id]))
            elif isinstance(made, dg.AssetCheckResult | dg.AssetObservation):
                checks.append((node_id, made))
    results = _results(invocation)
    return DbtOutcome(
        built=built,
        checks=[_with_examples(check, build_file, results.get(node_id, {})) for node_id, check in checks],
        failure=_sentence(results.values(), errors) if invocation.process.returncode != 0 else None,
    )


def _results(invocation: DbtCliInvocation) -> dict[str, Mapping[str, Any]]:
    try:
        results = invocation.get_artifact("run_results.json")["results"]
    except FileNotFoundError:  # dbt stopped before the first model
        return {}
    return {result["unique_id"]: result for result in results}


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


def _sentence(results: Iterable[Mapping[str, Any]], errors: list[str]) -> str:
    """Say in one sentence what failed and what to do."""
    failed = [result for result in results if result["status"] in _FAILED]
    if not failed:
        first = _first_line(errors[0]) if errors else "dbt ended early"
        return f"{_KEPT}dbt stopped ({first}); correct that and run this job again."
    named = [_what_failed(result) for result in failed[:_NAMED]]
    if len(failed) > _NAMED:
        named.append(f"{len(failed) - _NAMED} more")
    return f"{_KEPT}{', '.join(named)}; correct the models or what they read and run this job again."


def _what_failed(result: Mapping[str, Any]) -> str:
    kind, _, name = result["unique_id"].split(".")[:3]
    if result["status"] == "fail":
        rows = result.get("failures")
        return (
            f"check {name} found {rows:,} row{'' if rows == 1 else 's'}" if rows else f"check {name} failed"
        )
    return f"{kind} {name} could not be built ({_first_line(result['message'] or 'no reason given')})"


def _first_line(message: str) -> str:
    """The line of dbt's message that says most: the database's own, where there is one."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = [line for line in lines if line.partition(":")[0].endswith("Error")]
    return (said or lines or [message])[0][:300]


def _examples(build_file: Path, result: Mapping[str, Any]) -> str | None:
    """Some of the rows that a failed check found, as a Markdown table; None where they can't be had."""
    query = result.get("compiled_code")
    if result.get("status") not in ("fail", "warn") or not query:
        return None
    try:
        with closing(duckdb.connect(str(build_file), read_only=True)) as connection:
            found = connection.execute(f"select * from ({query}) as failing limit {_EXAMPLES}")
            names = [column[0] for column in found.description or ()]
            rows = found.fetchall()
    except duckdb.Error:  # the check reads the archive, which only dbt's own connection sees
        return None
    return markdown_table(names, rows)


def _with_examples(check: CheckEvents, build_file: Path, result: Mapping[str, Any]) -> CheckEvents:
    if not isinstance(check, dg.AssetCheckResult) or check.passed:
        return check
    examples = _examples(build_file, result)
    if examples is None:
        return check
    return check._replace(metadata={**check.metadata, "failing rows": dg.MetadataValue.md(examples)})
