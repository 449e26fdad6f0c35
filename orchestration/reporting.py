"""What a run reports of the tables: materialisations, observations and checks, as Dagster's pages show them.

What doesn't live here: computing them, and when what is reported (`warehouse_step`, `publishing`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from event_archive.config import Config
from event_archive.recompute.dbt import DbtRun
from event_archive.warehouse import BuildDiff, BuildRecord, layout
from orchestration.days import MARKED_DAYS, changed_days
from orchestration.dbt_results import Found, Models, row_counts
from orchestration.differences import as_markdown

BUILD = "build"
DIFFERENCE = "difference"
REASON = "reason"

Event: TypeAlias = (
    dg.Output[None]
    | dg.AssetMaterialization
    | dg.AssetObservation
    | dg.AssetCheckResult
    | dg.AssetCheckEvaluation
)


@dataclass(frozen=True)
class FinishedBuild:
    """A build that was finished in this run, and its file; the difference from what was published before, where that was asked."""

    record: BuildRecord
    file: Path
    ran: DbtRun
    difference: BuildDiff | None


def published_metadata(config: Config, record: BuildRecord) -> dict[str, Any]:
    """What is said of each table of a published build."""
    return {
        "build": record.build_id,
        "how": record.mode,
        "archive versions": dg.MetadataValue.json(record.versions),
        "read from": dg.MetadataValue.path(layout.record_file(config.warehouse, record.build_id)),
        "written to": dg.MetadataValue.path(layout.build_file(config.warehouse, record.build_id)),
    }


def day_materializations(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    key: dg.AssetKey,
    days: dict[str, int],
    metadata: dict[str, Any],
    *,
    at_most: int,
) -> Iterator[dg.AssetMaterialization]:
    """Mark days of a day level table as computed, the newest last; the run's log says if not all are.

    Args:
        context: Of the run.
        key: The table's asset.
        days: The days, oldest first, each with its rows.
        metadata: What is said of the whole; the newest day has it.
        at_most: How many days are marked, the newest.
    """
    if len(days) > at_most:
        context.log.info(
            "%s: %d days were computed; only the newest %d of them are marked as such, since Dagster takes long over each.",
            key.to_user_string(),
            len(days),
            at_most,
        )
    marked = list(days.items())[-at_most:]
    for number, (day, rows) in enumerate(marked, start=1):
        said = metadata if number == len(marked) else {BUILD: metadata[BUILD]}
        yield dg.AssetMaterialization(
            key, partition=day, metadata={**said, "dagster/partition_row_count": rows}
        )


def materializations(
    context: dg.AssetExecutionContext, config: Config, models: Models, built: FinishedBuild, *, how: str
) -> Iterator[Event]:
    """What a published build has computed.

    Args:
        context: Of the run.
        config: The configuration.
        models: The models.
        built: The build.
        how: Of which kind the run was, in some words.
    """
    rows = row_counts(built.file)
    marts = {mart.mart: mart for mart in built.record.marts}
    known = [unique_id for unique_id in built.ran.built if models.knows(unique_id)]
    if unknown := sorted(set(built.ran.built) - set(known)):
        context.log.warning(
            "Computed, but not known to Dagster yet: %s; reload the code location.", ", ".join(unknown)
        )
    day_tables = [name for name in map(models.table, known) if name in models.days]
    for unique_id in known:
        key, node = models.key(unique_id), models.node(unique_id)
        schema, table = node["schema"], node["alias"]
        mart = marts.get(table) if schema == "main" else None
        metadata: dict[str, Any] = {
            **(_difference(built.difference, table) if mart is not None else {}),
            **published_metadata(config, built.record),
            "how": how,
            "invocation_id": built.ran.invocation_id,
            "Execution Duration": built.ran.results[unique_id]["execution_time"],
        }
        if mart is not None:
            metadata["digest"] = mart.digest
        is_selected = key in context.selected_asset_keys
        if table in models.days and not is_selected:
            days = changed_days(built.file, models.days[table])
            at_most = MARKED_DAYS // len(day_tables)
            yield from day_materializations(context, key, days, metadata, at_most=at_most)
            continue
        if (schema, table) in rows and table not in models.days:  # a view has no rows of its own
            metadata["dagster/row_count"] = rows[schema, table]
        if is_selected:
            yield dg.Output(
                None,
                output_name=key.to_python_identifier(),
                metadata=metadata,
                data_version=dg.DataVersion(mart.digest) if mart is not None else None,
            )
        else:  # what a selected one reads, and had to be computed too
            yield dg.AssetMaterialization(key, metadata=metadata)


def _difference(difference: BuildDiff | None, mart: str) -> dict[str, Any]:
    for one in difference.marts if difference else ():
        if one.mart == mart and difference is not None:
            return {DIFFERENCE: dg.MetadataValue.md(as_markdown(one, difference))}
    return {}


def observations(models: Models, built: FinishedBuild, reason: str) -> Iterator[dg.AssetObservation]:
    """What a build that waits would change; nothing is materialised by it."""
    for mart in built.record.marts:
        if mart.mart in models.marts:
            metadata: dict[str, Any] = {
                BUILD: built.record.build_id,
                REASON: reason,
                **_difference(built.difference, mart.mart),
            }
            yield dg.AssetObservation(models.marts[mart.mart], metadata=metadata)


def report_checks(
    context: dg.AssetExecutionContext, checks: Sequence[Found], build_id: str | None
) -> Iterator[Event]:
    """The checks that the run was to make, and all others that dbt has made on the way."""
    for found in checks:
        metadata = {**found.metadata, **({BUILD: build_id} if build_id else {})}
        if found.key in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(
                asset_key=found.key.asset_key,
                check_name=found.key.name,
                passed=found.is_passed,
                severity=found.severity,
                metadata=metadata,
            )
        else:
            yield dg.AssetCheckEvaluation(
                asset_key=found.key.asset_key,
                check_name=found.key.name,
                passed=found.is_passed,
                severity=found.severity,
                metadata=metadata,
                target_materialization_data=_target(context, found.key.asset_key),
            )


def _target(
    context: dg.AssetExecutionContext, key: dg.AssetKey
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """The table that a check was of, if this run has materialised it."""
    for record in context.instance.fetch_materializations(key, limit=1).records:
        if record.run_id == context.run.run_id:
            return AssetCheckEvaluationTargetMaterializationData(
                run_id=record.run_id, storage_id=record.storage_id, timestamp=record.timestamp
            )
    return None
