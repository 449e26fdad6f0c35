"""One recompute of tables as the step of a run: its progress as the run's log, its result as materialisations, checks and observations.

What doesn't live here: computing (`event_archive.recompute`), and the assets whose step this is (`assets_warehouse`).
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from event_archive.config import Config
from event_archive.recompute.checks import run_checks
from event_archive.recompute.dbt import BuildFailed, DbtProgress, DbtRun, run_dbt
from event_archive.recompute.plan import Plan
from event_archive.recompute.project import Project
from event_archive.recompute.request import Request
from event_archive.recompute.run import DBT, Ending, Fill, Recomputed, build_environment, recompute
from event_archive.warehouse import Build, BuildDiff, BuildRecord, layout
from orchestration.days import MARKED_DAYS, changed_days
from orchestration.dbt_results import Found, Models, check_results, row_counts
from orchestration.differences import as_markdown, lines

ENDING_TAG = "tables"
"""Of a run: what became of the tables, such as `published`, `nothing new`, `waiting`."""
BUILD = "build"
DIFFERENCE = "difference"
REASON = "reason"

_CHECKS_SECONDS = 5
"""Each model that begins is told; of checks, of which there are many, only how they get on."""

Event: TypeAlias = (
    dg.Output[None]
    | dg.AssetMaterialization
    | dg.AssetObservation
    | dg.AssetCheckResult
    | dg.AssetCheckEvaluation
)


@dataclass(frozen=True)
class _Built:
    """A build that was finished in this run, and its file; the difference from what was published before, where that was asked."""

    record: BuildRecord
    file: Path
    ran: DbtRun
    difference: BuildDiff | None


def recompute_step(
    context: dg.AssetExecutionContext, config: Config, models: Models, request: Request
) -> Iterator[Event]:
    """Compute tables, and report what came of it.

    Nothing is reported before the end: Dagster would take a model for materialised although its build is then thrown away, and a check
    for one of the tables published before.

    Raises:
        EventArchiveError: Those of `recompute`.
    """
    checks: list[Found] = []
    try:
        done = recompute(
            config,
            request,
            built_by=f"Dagster run {context.run.run_id}",
            fill=_fill(context, config, models, checks),
            on_plan=lambda plan: _log_plan(context, request, plan),
        )
    except BuildFailed:
        yield from _report_checks(context, checks, None)
        raise
    _tag(context, done)
    for line in lines(done.difference) if done.difference else ():
        context.log.info(line)
    if done.record is None or done.file is None or done.dbt is None:
        context.log.info("Nothing to do: %s", done.reason)
        return
    built = _Built(done.record, done.file, done.dbt, done.difference)
    if done.ending is Ending.WAITING:
        context.log.warning(
            "%s So does the job `publish_build` with its build_id. Until then nothing is materialised.",
            done.reason,
        )
        yield from _observations(models, built, done.reason)
    else:
        context.log.info(done.reason)
        how = "{} to {} again".format(*request.days) if request.days else built.record.mode
        yield from _materializations(context, config, models, built, how=how)
    yield from _report_checks(context, checks, built.record.build_id)


def check_step(
    context: dg.AssetExecutionContext, config: Config, models: Models, select: Sequence[str]
) -> Iterator[Event]:
    """Run checks of the published tables alone.

    Raises:
        EventArchiveError: Those of `run_checks`.
    """
    checks: list[Found] = []
    ran = run_checks(config, select, fill=_fill(context, config, models, checks))
    yield from _report_checks(context, checks, layout.current_build_id(config.warehouse))
    if ran.failure is not None:
        raise BuildFailed(ran.failure)


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


def _fill(context: dg.AssetExecutionContext, config: Config, models: Models, checks: list[Found]) -> Fill:
    """A way of running dbt that tells the run how far it is, and keeps what the checks found while their tables are still there."""

    def fill(project: Project, build: Build, arguments: Sequence[str]) -> DbtRun:
        ran = run_dbt(
            project.folder,
            arguments,
            environment=build_environment(config, build),
            target=build.folder / DBT,
            on_progress=_progress_log(context, project),
            on_message=_print,
        )
        checks.extend(check_results(ran, models, build.file))
        return ran

    return fill


def _print(message: str) -> None:
    """What dbt says goes to the step's own output."""
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


def _progress_log(context: dg.AssetExecutionContext, project: Project) -> Callable[[DbtProgress], None]:
    told: set[str] = set()
    told_at = time.monotonic()

    def show(progress: DbtProgress) -> None:
        nonlocal told_at
        begun = (set(progress.running) & set(project.models)) - told
        is_time = time.monotonic() - told_at > _CHECKS_SECONDS
        if not progress.running or not (begun or is_time):
            return
        told.update(begun)
        told_at = time.monotonic()
        running = ", ".join(progress.running)
        context.log.info("%d of %d models and checks; running: %s", progress.done, progress.total, running)

    return show


def _log_plan(context: dg.AssetExecutionContext, request: Request, plan: Plan) -> None:
    if request.is_range:  # nothing else is computed, and where that can't be, the library says so
        return
    if plan.base is None and not request.is_rebuild:
        context.log.info("There are no tables to go on from: everything is computed.")
    new = ", ".join(f"{count:,} of {stream}" for stream, count in plan.new_events.items())
    if new and not request.is_rebuild:
        context.log.info("New events: %s.", new)
    for model, reason in plan.stale.items():
        context.log.info("%s is stale and has to be computed in full: %s.", model, reason)
    for _, model, _ in plan.gone:
        context.log.info("%s: the project hasn't this model any more; its table goes.", model)


def _tag(context: dg.AssetExecutionContext, done: Recomputed) -> None:
    """The list of runs shows at a glance what each of them did."""
    build = {BUILD: done.record.build_id} if done.record else {}
    context.instance.add_run_tags(context.run.run_id, {ENDING_TAG: done.ending.value, **build})


def _materializations(
    context: dg.AssetExecutionContext, config: Config, models: Models, built: _Built, *, how: str
) -> Iterator[Event]:
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
            days = changed_days(built.file, table, models.days[table])
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


def _observations(models: Models, built: _Built, reason: str) -> Iterator[dg.AssetObservation]:
    for mart in built.record.marts:
        if mart.mart in models.marts:
            metadata: dict[str, Any] = {
                BUILD: built.record.build_id,
                REASON: reason,
                **_difference(built.difference, mart.mart),
            }
            yield dg.AssetObservation(models.marts[mart.mart], metadata=metadata)


def _report_checks(
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
