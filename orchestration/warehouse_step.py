"""One recompute of tables as the step of a run, with its progress as the run's log.

What doesn't live here: computing (`event_archive.recompute`), how its result is reported (`reporting`), and the assets whose step this is (`assets_warehouse`).
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from event_archive.config import Config
from event_archive.recompute.checks import run_checks
from event_archive.recompute.dbt import BuildFailed, DbtProgress, DbtRun, run_dbt
from event_archive.recompute.plan import Plan
from event_archive.recompute.project import Project
from event_archive.recompute.request import Request
from event_archive.recompute.run import DBT, Ending, Fill, Recomputed, build_environment, recompute
from event_archive.warehouse import Build, BuildDiff, layout
from orchestration.dbt_results import Found, Models, check_results
from orchestration.differences import lines
from orchestration.reporting import BUILD, Event, FinishedBuild, materializations, observations, report_checks

ENDING_TAG = "tables"
"""Of a run: what became of the tables, such as `published`, `nothing new`, `waiting`."""
_CHECKS_SECONDS = 5
"""Each model that begins is told; of checks, of which there are many, only how they get on."""


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
            on_difference=lambda difference: _log_difference(context, difference),
        )
    except BuildFailed:
        yield from report_checks(context, checks, None)
        raise
    _tag(context, done)
    if done.record is None or done.file is None or done.dbt is None:
        context.log.info("Nothing to do: %s", done.reason)
        return
    built = FinishedBuild(done.record, done.file, done.dbt, done.difference)
    if done.ending is Ending.WAITING:
        context.log.warning(
            "%s So does the job `publish_build` with its build_id. Until then nothing is materialised.",
            done.reason,
        )
        yield from observations(models, built, done.reason)
    else:
        context.log.info(done.reason)
        how = "{} to {} again".format(*request.days) if request.days else built.record.mode
        yield from materializations(context, config, models, built, how=how)
    yield from report_checks(context, checks, built.record.build_id)


def check_step(
    context: dg.AssetExecutionContext, config: Config, models: Models, select: Sequence[str]
) -> Iterator[Event]:
    """Run checks of the published tables alone.

    Raises:
        EventArchiveError: Those of `run_checks`.
    """
    checks: list[Found] = []
    ran = run_checks(config, select, fill=_fill(context, config, models, checks))
    yield from report_checks(context, checks, layout.current_build_id(config.warehouse))
    if ran.failure is not None:
        raise BuildFailed(ran.failure)


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


def _log_difference(context: dg.AssetExecutionContext, difference: BuildDiff) -> None:
    for line in lines(difference):
        context.log.info(line)


def _tag(context: dg.AssetExecutionContext, done: Recomputed) -> None:
    """The list of runs shows at a glance what each of them did."""
    build = {BUILD: done.record.build_id} if done.record else {}
    context.instance.add_run_tags(context.run.run_id, {ENDING_TAG: done.ending.value, **build})
