"""A refresh or a rebuild from beginning to end: plan, build beside the published tables, compare, publish.

What doesn't live here: the parts (`request`, `plan`, `as_of`, `dbt`, and `event_archive.warehouse`), and who asks for it: the command line and
Dagster both call `recompute`, each with its own way of running dbt.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import duckdb

from event_archive.errors import StorageError, UsageError
from event_archive.recompute.dbt import BuildFailed, DbtRun, run_dbt
from event_archive.recompute.determinism import refuse_guesses
from event_archive.recompute.ending import Ending, Filled, Recomputed, end
from event_archive.recompute.noted_checks import unit_tests, unit_tests_hold
from event_archive.recompute.plan import make_plan, read_base
from event_archive.recompute.prepare import prepare_file
from event_archive.recompute.project import project_of, read_project
from event_archive.recompute.ranges import commits_ingested
from event_archive.recompute.request import check_request, dbt_arguments
from event_archive.recompute.state import is_compared, pin_for, waiting_already
from event_archive.warehouse import (
    BuildMode,
    layout,
    pin_streams,
    published_file,
    start_build,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from event_archive.config import Config
    from event_archive.recompute.dbt import DbtProgress
    from event_archive.recompute.plan import Base, Plan
    from event_archive.recompute.project import Project
    from event_archive.recompute.request import Request
    from event_archive.warehouse import Build, BuildDiff

__all__ = ["PATIENCE_SECONDS", "Ending", "Fill", "Recomputed", "build_environment", "recompute"]

PATIENCE_SECONDS = 900
"""How long a recompute waits for one that is under way; what it does then includes what that one did."""


DBT = "dbt"
"""Folder, in that of a build, for what dbt writes about its run."""


class Fill(Protocol):
    """A way of running dbt over a build's file."""

    def __call__(self, project: Project, build: Build, arguments: Sequence[str]) -> DbtRun:
        """Run one command of dbt to its end."""


def build_environment(config: Config, build: Build) -> dict[str, str]:
    """The variables by which dbt finds the file to fill, what it may see of the archive, and how much it may use."""
    return {**build.environment(), **config.compute.environment(spill=build.folder / "spill")}


def recompute(
    config: Config,
    request: Request,
    *,
    built_by: str,
    fill: Fill | None = None,
    confirm: Callable[[BuildDiff], bool] | None = None,
    on_plan: Callable[[Plan], None] = lambda _: None,
    on_progress: Callable[[DbtProgress], None] = lambda _: None,
    on_difference: Callable[[BuildDiff], None] = lambda _: None,
) -> Recomputed:
    """Refresh the published tables, or compute tables again from the archive.

    Args:
        config: The configuration.
        request: What is asked for.
        built_by: Who or what asks, for the record.
        fill: How dbt is run; by default in a process of its own.
        confirm: Asks a person whether a build that differs is published; None if there is nobody.
        on_plan: Told what has to be done, before it is.
        on_progress: Told how far dbt is, if `fill` isn't given.
        on_difference: Told what a build changes in the published tables, before it is published; a refresh that only adds what is new isn't
            compared.

    Raises:
        BuildFailed: A model or a check failed; what is published stays.
        ModelGuesses: The rows of a model depend on more than the events; what is published stays.
        UsageError: What is asked for doesn't go together, or isn't there.
        ProjectUnreadable: The models can't be read.
        HistoryChanged: The archive isn't the one that the tables, or the past state, were of.
        WarehouseBusy: Another build is under way, still after 15 minutes.
        ArchiveDamaged: A log can't be read.
        StorageError: The disk is full or refused.
    """
    project = _read_project(config, request)
    base = read_base(config.warehouse)
    _refuse_to_lose_tables(config, request, base)
    if not request.is_rebuild:
        streams = pin_streams(config)
        plan = make_plan(config, project, streams, base)
        if not plan.has_work:
            return _nothing_new(plan)
        if not request.select and (waits := waiting_already(config, project, plan, streams)):
            reason = f"build {waits} waits, and what is new waits for it; `event-archive publish {waits}` publishes it."
            return Recomputed(Ending.NOTHING_NEW, reason, plan)
    if request.is_range and base is None:
        raise UsageError(
            "There are no tables yet of which a range could be computed again; run `event-archive refresh` first."
        )
    done = None
    while done is None:
        mode = BuildMode.REBUILD if request.starts_empty or base is None else BuildMode.REFRESH
        pin = partial(pin_for, config, request)
        with start_build(config.warehouse, mode=mode, streams=pin, wait_seconds=PATIENCE_SECONDS) as build:
            # Asked again: whoever built while this one was waiting has published another base.
            base = None if request.starts_empty else read_base(config.warehouse)
            _refuse_to_lose_tables(config, request, base)
            project = _read_project(config, request)
            if (base is None) is not (mode is BuildMode.REBUILD):
                build.discard("what is published has become, or isn't any more, something to go on from")
                continue
            plan = make_plan(config, project, build.streams, base)
            if not request.is_rebuild and not plan.has_work:
                build.discard("whoever built before has done what there was to do")
                return _nothing_new(plan)
            build.limits = config.compute.settings(spill=build.folder / "spill")
            on_plan(plan)
            run = fill or partial(_fill_by_dbt, config, on_progress)
            try:
                filled = _fill(config, request, project, plan, build, run=run)
                _refuse_edited(config, project, build)
                done = end(filled, built_by, confirm, on_difference)
            except (OSError, duckdb.OperationalError, duckdb.FatalException) as error:
                raise StorageError(
                    f"The build could not be completed ({error}); the published tables stay as they were. "
                    "Make room on the disk or give write access, then run this again."
                ) from error
    if done.ending is Ending.PUBLISHED and not request.is_rebuild and is_compared(config, request, done.plan):
        # It was of the archive as the tables of before had seen it; what is new comes now.
        more = recompute(
            config,
            request,
            built_by=built_by,
            fill=fill,
            confirm=confirm,
            on_plan=on_plan,
            on_progress=on_progress,
            on_difference=on_difference,
        )
        return done if more.record is None else _both(done, more)
    return done


def _both(first: Recomputed, second: Recomputed) -> Recomputed:
    """Two builds that were published one after the other, as one: the second holds the first."""
    ran = second.dbt
    if first.dbt is not None and ran is not None:
        ran = replace(ran, results={**first.dbt.results, **ran.results})
    return replace(second, difference=first.difference, dbt=ran)


def _read_project(config: Config, request: Request) -> Project:
    project = read_project(config.models)
    check_request(request, project)
    if not request.select:
        _refuse_unknown_streams(config, project)
    return project


def _refuse_edited(config: Config, project: Project, build: Build) -> None:
    """The build would be recorded as made by code that it wasn't made by: dbt reads the files again when it starts."""
    manifest = build.folder / DBT / "manifest.json"
    if not manifest.exists():
        return
    ran = project_of(project.folder, manifest)
    if (ran.state_hashes(), ran.checks) != (project.state_hashes(), project.checks):
        build.discard("the models were edited meanwhile")
        raise BuildFailed(
            f"The published tables stay as they were: a file in {config.models} was changed while dbt started; run this again."
        )


def _refuse_to_lose_tables(config: Config, request: Request, base: Base | None) -> None:
    """A part of the tables, computed into an empty file, would take the place of all."""
    is_part = bool(request.select or request.is_range)
    if base is None and is_part and not request.is_aside and published_file(config.warehouse) is not None:
        raise UsageError(
            "The published tables can't be gone on from, so that a part of them alone would take the place of all: "
            "run `event-archive rebuild` first, without --select."
        )


def _refuse_unknown_streams(config: Config, project: Project) -> None:
    """Without this, dbt would say of such a stream that a table is missing, after seconds."""
    for model in project.models.values():
        for stream in model.streams:
            if stream not in config.streams:
                raise UsageError(
                    f"{model.name} in {project.folder} reads the stream {stream!r}, which {config.path} doesn't have: add it under `streams`; "
                    "or, if these aren't your models, `event-archive scaffold stream NAME` makes a project of your own beside the configuration."
                )


def _nothing_new(plan: Plan) -> Recomputed:
    return Recomputed(Ending.NOTHING_NEW, "the tables hold everything that the archive has.", plan)


def _fill(
    config: Config, request: Request, project: Project, plan: Plan, build: Build, *, run: Fill
) -> Filled:
    """Let dbt compute and check the tables.

    Raises:
        BuildFailed: A model or a check failed.
        ModelGuesses: The rows of a model depend on more than the events.
    """
    if plan.base is not None:
        _prepare(config, request, project, plan, build)
    published = layout.published_file(config.warehouse)
    skips_unit_tests = published is not None and unit_tests_hold(published, project)
    arguments = dbt_arguments(request, project, plan, runs_unit_tests=not skips_unit_tests)
    ran = run(project, build, arguments) if arguments else DbtRun({}, (), None, is_success=True)
    if ran.failure is not None:
        build.discard(ran.failure)
        raise BuildFailed(ran.failure)
    if request.select and arguments and not ran.results:
        build.discard("nothing was selected")
        raise UsageError(
            f"No model is selected by {' '.join(request.select)}; there are: {', '.join(project.models)}."
        )
    refuse_guesses(project, ran)
    passed = list(ran.passed)
    if skips_unit_tests:
        passed += [check.unique_id for check in unit_tests(project)]
    return Filled(config, request, project, plan, build, ran, tuple(passed))


def _fill_by_dbt(
    config: Config,
    on_progress: Callable[[DbtProgress], None],
    project: Project,
    build: Build,
    arguments: Sequence[str],
) -> DbtRun:
    return run_dbt(
        project.folder,
        arguments,
        environment=build_environment(config, build),
        target=build.folder / DBT,
        on_progress=on_progress,
    )


def _prepare(config: Config, request: Request, project: Project, plan: Plan, build: Build) -> None:
    commits = None
    if (request.select or request.is_range) and plan.replaced:
        raise UsageError(
            f"{', '.join(name for _, name, _ in plan.replaced)} is to be something else or somewhere else than what is published, and would be missing "
            "if only a part is computed: run `event-archive refresh` first, without --select."
        )
    if request.is_range:
        _refuse_two_logics(request, project, plan)
    if request.ingested is not None:
        commits = commits_ingested(config, request.ingested)
        if not commits:
            raise UsageError(
                f"Nothing was archived from {request.ingested[0]} to {request.ingested[1]} (UTC); name other days."
            )
    prepare_file(
        build.file, project, plan, days=request.days, commits=commits, keeps_digests=not request.is_rebuild
    )
    # A model that is computed in full reads everything; it asks for it under another name.
    build.show_archive(plan.recent_from)


def _refuse_two_logics(request: Request, project: Project, plan: Plan) -> None:
    for name in request.select or project.models:
        if name in plan.stale:
            raise UsageError(
                f"The rows of {name} are of another code than the project's ({plan.stale[name]}); a range of them alone would mix the two. "
                "`event-archive refresh` computes it again in full."
            )
