"""How a recompute ends: the build is finished, compared with what is published, and published or left waiting.

What doesn't live here: everything before (`run`), and how a build is finished and switched in (`event_archive.warehouse`).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import duckdb

from event_archive.errors import EventArchiveError
from event_archive.recompute.noted_checks import note_checks
from event_archive.recompute.plain_views import note_plain_views
from event_archive.recompute.plan import EPHEMERAL, has_events
from event_archive.recompute.prepare import clear_asked, leave_checkpoint
from event_archive.recompute.project import state_hashes
from event_archive.warehouse import (
    BuildUnreadable,
    MadeBy,
    decide,
    diff_builds,
    finish,
    finish_into,
    keep_waiting,
    published_file,
    read_published,
    switch,
)
from event_archive.warehouse.layout import build_file
from event_archive.warehouse_config import PublishPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from event_archive.config import Config
    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.plan import Plan
    from event_archive.recompute.project import Project
    from event_archive.recompute.request import Request
    from event_archive.warehouse import Build, BuildDiff, BuildRecord


class Ending(StrEnum):
    """What became of a recompute."""

    NOTHING_NEW = "nothing new"
    PUBLISHED = "published"
    WAITING = "waiting"
    WRITTEN = "written"


@dataclass(frozen=True)
class Recomputed:
    """What a recompute has done.

    Attributes:
        ending: What became of the build.
        reason: Why, in a sentence.
        plan: What had to be done.
        record: The build; None if there was nothing to do.
        file: Its file; None if there was nothing to do.
        difference: From what was published before to this build; None where that wasn't asked.
        new_since_published: Events of each stream that the build holds and the published one didn't.
        dbt: What dbt's run came to; None if it wasn't started.
    """

    ending: Ending
    reason: str
    plan: Plan
    record: BuildRecord | None = None
    file: Path | None = None
    difference: BuildDiff | None = None
    new_since_published: Mapping[str, int] = field(default_factory=dict)
    dbt: DbtRun | None = None


@dataclass(frozen=True)
class Filled:
    """A build whose tables are complete and checked; `passed` names the checks that hold of it."""

    config: Config
    request: Request
    project: Project
    plan: Plan
    build: Build
    ran: DbtRun
    passed: tuple[str, ...]


def end(
    filled: Filled,
    built_by: str,
    confirm: Callable[[BuildDiff], bool] | None,
    on_difference: Callable[[BuildDiff], None],
) -> Recomputed:
    """Finish a build, and publish it or let it wait, as the request and the configuration say.

    Args:
        filled: The build.
        built_by: Who or what has asked for it.
        confirm: Asks a person whether a build that differs is published; None if there is nobody.
        on_difference: Told what differs, before anything is published.
    """
    config, request, plan, build = filled.config, filled.request, filled.plan, filled.build
    with closing(duckdb.connect(str(build.file))) as connection:
        leave_checkpoint(connection)
        clear_asked(connection)
        hashes = _state_hashes(filled)
        note_checks(connection, filled.project, filled.ran.results, filled.passed, hashes)
        note_plain_views(connection, filled.project, filled.ran)
        is_partial = _is_partial(connection, config, build)
    made = _made_by(filled, built_by, hashes, is_partial=is_partial)
    if request.into is not None:
        record = finish_into(build, request.into, made)
        reason = "it was asked for as a file of its own."
        return Recomputed(Ending.WRITTEN, reason, plan, record, request.into, dbt=filled.ran)
    published = _published(config)
    record = finish(build, made)
    file = build_file(build.warehouse, record.build_id)
    difference, problem = None, None
    if published is None and published_file(config.warehouse) is not None:
        problem = "What is published can't be read."
    try:
        # A refresh that only adds what is new changes no history.
        if published is not None and (request.is_rebuild or plan.changes_history):
            before = build_file(build.warehouse, published.build_id)
            difference, problem = _difference(build, before, file)
            if difference is not None:
                on_difference(difference)
        is_published, reason = _decide(filled, record.build_id, difference, problem, confirm)
    except BaseException:  # nobody at the terminal, say: it stays, and doesn't push out others
        keep_waiting(build, keep=config.keep_builds)
        raise
    (switch if is_published else keep_waiting)(build, keep=config.keep_builds)
    ending = Ending.PUBLISHED if is_published else Ending.WAITING
    new = _new_since(published, record)
    return Recomputed(ending, reason, plan, record, file, difference, new, filled.ran)


def _difference(build: Build, before: Path, file: Path) -> tuple[BuildDiff | None, str | None]:
    """What differs from what is published, or why that can't be told: a rebuild is the way out of a damaged file."""
    try:
        return diff_builds(before, file, temporary=build.folder, limits=build.limits), None
    except EventArchiveError as error:
        return None, str(error)


def _decide(
    filled: Filled,
    build_id: str,
    difference: BuildDiff | None,
    problem: str | None,
    confirm: Callable[[BuildDiff], bool] | None,
) -> tuple[bool, str]:
    """Whether a finished build is published, and why."""
    policy = filled.config.publish
    waits = f"`event-archive publish {build_id}` publishes it."
    if filled.request.as_of is not None:
        return False, f"Build {build_id} waits: a past state is never published by itself. {waits}"
    if problem is not None and policy is not PublishPolicy.ALWAYS:
        return False, f"Build {build_id} waits: what differs could not be told. {problem} {waits}"
    asked = None if confirm is None or difference is None else partial(confirm, difference)
    decision = decide(policy, build_id, difference, asked)
    told = f" What differs could not be told: {problem}" if problem is not None else ""
    return decision.is_published, decision.reason + told


def _is_partial(connection: duckdb.DuckDBPyConnection, config: Config, build: Build) -> bool:
    """Whether a table ends before the build does: one that wasn't among those that were asked for."""
    ends = connection.execute(
        "select marks.stream, min(marks.commit_version) from meta.watermarks as marks "
        "inner join meta.models as models on models.model = marks.model "
        "where models.materialized in ('table', 'incremental') group by marks.stream"
    ).fetchall()
    return any(
        has_events(config, stream, end, build.streams[stream].version)
        for stream, end in ends
        if stream in build.streams
    )


def _made_by(filled: Filled, built_by: str, hashes: Mapping[str, str], *, is_partial: bool) -> MadeBy:
    models = filled.project.models.values()
    return MadeBy(
        built_by=built_by,
        models=hashes,
        grains={model.name: model.grain for model in models if model.schema == "main" and model.grain},
        dbt_invocation_id=filled.ran.invocation_id,
        as_of=filled.request.as_of,
        is_partial=is_partial,
    )


def _state_hashes(filled: Filled) -> dict[str, str]:
    """Of each model what its rows are made by: of one that wasn't built in this run, what they were made by before."""
    project, base = filled.project, filled.plan.base
    before = dict(base.record.models) if base is not None else {}
    if filled.request.is_range:
        return before
    built = set(filled.ran.built)
    not_built = [
        model.name
        for model in project.models.values()
        if model.unique_id not in built and model.materialized != EPHEMERAL
    ]
    hashes = state_hashes(project, {name: before.get(name, "") for name in not_built})
    return {name: hashes[name] for name in project.models if hashes[name]}


def _published(config: Config) -> BuildRecord | None:
    """What is published; None also if it is damaged: a rebuild is the way out of exactly that."""
    try:
        return read_published(config.warehouse)
    except BuildUnreadable:
        return None


def _new_since(published: BuildRecord | None, record: BuildRecord) -> dict[str, int]:
    before = published.streams if published is not None else {}
    counts = {
        name: seen.events - (before[name].events if name in before else 0)
        for name, seen in record.streams.items()
    }
    return {name: count for name, count in counts.items() if count}
