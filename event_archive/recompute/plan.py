"""What a refresh has to do: which models' rows are stale, which models are behind, what of the archive is new; or nothing at all.

What doesn't live here: doing it (`run`), and telling dbt (`prepare`). Everything is read from the build to go on from: dbt isn't needed for it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import duckdb

from event_archive.archive.span_table import commits_between
from event_archive.recompute.as_of import HistoryChanged
from event_archive.warehouse import layout
from event_archive.warehouse.record import BuildUnreadable, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from event_archive.config import Config
    from event_archive.recompute.project import Model, Project
    from event_archive.warehouse.build import PinnedStream
    from event_archive.warehouse.record import BuildRecord

SEED = "seed"
EPHEMERAL = "ephemeral"


@dataclass(frozen=True)
class ModelNotes:
    """What the build to go on from notes of one model.

    Attributes:
        schema: Where its table or view is.
        materialized: What it is: view, table or incremental.
        level: event, entity, day, or None.
        watermarks: Up to which commit of each stream its rows go.
        is_behind_inputs: Whether a table that it reads has changed since it has read it.
    """

    schema: str
    materialized: str
    level: str | None
    watermarks: Mapping[str, int]
    is_behind_inputs: bool


@dataclass(frozen=True)
class Base:
    """The build to go on from: its record, and what it notes of its models."""

    record: BuildRecord
    file: Path
    models: Mapping[str, ModelNotes]


@dataclass(frozen=True)
class Plan:
    """What a refresh has to do.

    Attributes:
        base: The build to go on from; None: there is none that can be gone on from, and everything is computed.
        stale: Models that have to be computed in full although they are there, each with the reason.
        gone: Schema, name and kind of what is there of models that the project hasn't any more.
        replaced: The same of models that are to be something else, or somewhere else, from now on.
        behind: Models that are missing or haven't consumed everything.
        new_events: How many events of each stream are new; streams without any, and those that no model reads, are left out.
        recent_from: For each stream, the commit up to which every model has consumed it.
    """

    base: Base | None
    stale: Mapping[str, str]
    gone: tuple[tuple[str, str, str], ...]
    behind: tuple[str, ...]
    new_events: Mapping[str, int]
    recent_from: Mapping[str, int]
    replaced: tuple[tuple[str, str, str], ...] = ()

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
        return self.base is None or bool(self.stale or self.gone or self.behind or self.new_events)

    @property
    def changes_history(self) -> bool:
        """Whether more is done than adding what is new, so that rows of before may come out differently."""
        return self.base is None or bool(self.stale or self.gone or self.replaced)


def make_plan(
    config: Config, project: Project, streams: Mapping[str, PinnedStream], base: Base | None
) -> Plan:
    """Compare the build to go on from with the project and with the archive.

    Args:
        config: The configuration.
        project: The models as they are now.
        streams: What the build will see of the archive.
        base: From `read_base`.

    Raises:
        HistoryChanged: The archive isn't the one that the base was made from.
    """
    if base is None:
        new = {name: pinned.events for name, pinned in streams.items() if pinned.events}
        return Plan(None, {}, (), tuple(project.models), new, {})
    read = {stream for model in project.models.values() for stream in model.streams}
    new_events = {}
    for name, pinned in streams.items():
        # Of a stream that nobody reads, too: that its history is another one has to be told.
        if (added := _new_events(config, name, pinned, base.record)) and name in read:
            new_events[name] = added
    looks = cache(partial(has_events, config))
    stale = _stale(project, base)
    replaced = tuple(_replaced(project, base, stale))
    behind = tuple(
        model.name
        for model in project.models.values()
        if any(model.name == name for _, name, _ in replaced) or _is_behind(project, model, base, looks)
    )
    gone = tuple(
        (notes.schema, name, notes.materialized)
        for name, notes in base.models.items()
        if name not in project.models
    )
    return Plan(base, stale, gone, behind, new_events, _recent_from(project, base), replaced)


def read_base(warehouse: Path) -> Base | None:
    """Read the published build as one to go on from; None if there is none, or none that has the notes that are needed."""
    build_id = layout.current_build_id(warehouse)
    file = layout.published_file(warehouse)
    if build_id is None or file is None:
        return None
    try:
        record = read_record(warehouse, build_id)
        return Base(record, file, _notes(file))
    except BuildUnreadable:
        return None


def _notes(file: Path) -> dict[str, ModelNotes]:
    try:
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            found = connection.execute(
                "select model, models.schema_name, materialized, level, "
                "(select map_from_entries(list((stream, commit_version))) from meta.watermarks as marks "
                "where marks.model = models.model), "
                "exists (from meta.inputs as inputs inner join meta.models as read on read.model = inputs.input "
                "where inputs.model = models.model and inputs.version < read.version) "
                # Of one that was removed, the notes stay.
                "from meta.models as models inner join ("
                "select schema_name, table_name as name from duckdb_tables() where database_name = current_database() "
                "union all select schema_name, view_name from duckdb_views() where database_name = current_database()"
                ") as there on there.schema_name = models.schema_name and there.name = models.model"
            ).fetchall()
    except duckdb.Error as error:  # of an older version, or damaged
        raise BuildUnreadable(f"{file} has no notes to go on from ({error})") from error
    return {
        name: ModelNotes(schema, materialized, level, watermarks or {}, is_behind)
        for name, schema, materialized, level, watermarks, is_behind in found
    }


def _new_events(config: Config, name: str, pinned: PinnedStream, record: BuildRecord) -> int:
    before = record.streams.get(name)
    if before is None or before.version < 0:
        return pinned.events
    seen = _entry_hash(config, name, pinned, before.version)
    if before.chain_hash not in (None, seen):
        raise HistoryChanged(
            f"The archive of {name} isn't the one that the tables were made from: its commit {before.version} is another one. "
            "`event-archive verify` proves this archive; `event-archive rebuild` makes the tables from it."
        )
    return pinned.events - before.events


def _entry_hash(config: Config, name: str, pinned: PinnedStream, version: int) -> str | None:
    if pinned.version == version:
        return pinned.chain_hash
    for commit in commits_between(config.table(name), version, version):
        return commit.entry_sha256
    return None


def _stale(project: Project, base: Base) -> dict[str, str]:
    wanted = project.state_hashes()
    stale: dict[str, str] = {}
    for model in project.models.values():
        was = base.record.models.get(model.name)
        if was is None or was == wanted[model.name]:
            continue
        # The first stale input that isn't stale because of another one is what somebody has changed.
        causes = [name for name in model.inputs if name in stale]
        stale[model.name] = f"it reads {causes[0]}" if causes else "its code has changed"
    return stale


def _replaced(project: Project, base: Base, stale: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """What is there of models in another place, or as another kind of relation, than the project says; and seeds with other rows."""
    for name, notes in base.models.items():
        model = project.models.get(name)
        is_view = notes.materialized == "view"
        if model and (notes.schema, is_view) != (model.schema, model.materialized == "view"):
            yield notes.schema, name, notes.materialized
    for name in stale:
        if project.models[name].materialized == SEED:
            yield project.models[name].schema, name, SEED


def _is_behind(
    project: Project, model: Model, base: Base, has_events: Callable[[str, int, int], bool]
) -> bool:
    """Whether a model is missing, has read less than there is of what it reads, or ends before the build does; new events aside."""
    if model.materialized == SEED:  # it notes nothing of itself, and reads nothing
        return model.name not in base.record.models
    if model.materialized == EPHEMERAL:  # it is a part of those who read it
        return False
    notes = base.models.get(model.name)
    if notes is None or notes.is_behind_inputs:
        return True
    if notes.materialized == "view":
        return False
    return any(
        has_events(stream, notes.watermarks.get(stream, -1), base.record.streams[stream].version)
        for stream in project.streams_of(model.name)
        if stream in base.record.streams
    )


def has_events(config: Config, stream: str, after: int, until: int) -> bool:
    """Whether commits of a stream after one and up to another have brought events; those of a compaction haven't."""
    return after < until and any(
        commit.events for commit in commits_between(config.table(stream), after + 1, until)
    )


def _recent_from(project: Project, base: Base) -> dict[str, int]:
    """Per stream the least watermark of the models that read it and are there."""
    found: dict[str, int] = {}
    for name, notes in base.models.items():
        model = project.models.get(name)
        if model is None or model.materialized != "incremental":
            continue
        for stream in model.streams:
            mark = notes.watermarks.get(stream, -1)
            found[stream] = min(found.get(stream, mark), mark)
    return found
