"""Which builds there are and have been.

What doesn't live here: making one (`finish`) and switching one in (`publish`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from event_archive.errors import UsageError
from event_archive.warehouse import layout
from event_archive.warehouse.publish import why_absent
from event_archive.warehouse.record import BuildUnreadable, read_record
from event_archive.warehouse.record_tables import read_build
from event_archive.warehouse.switching import ever_published

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.warehouse.record import BuildRecord


class BuildState(StrEnum):
    """What has become of a build."""

    LIVE = "live"
    """It is the published one."""
    WAITING = "waiting"
    """It is whole and has never been published; it may be."""
    KEPT = "kept"
    """It was published once; one can go back to it."""
    REMOVED = "removed"
    """Only its record is left; it can be computed again from the archive."""


@dataclass(frozen=True)
class KnownBuild:
    """One build.

    Attributes:
        build_id: Its name.
        state: What has become of it.
        size_bytes: Of its file, if that is there.
        record: What it is made of; None if that can't be read.
        problem: Why not, or None.
    """

    build_id: str
    state: BuildState
    size_bytes: int | None
    record: BuildRecord | None
    problem: str | None = None


def list_builds(warehouse: Path) -> list[KnownBuild]:
    """List every build that was ever finished in a warehouse, newest first."""
    live = layout.current_build_id(warehouse)
    published = ever_published(warehouse)
    known = {*layout.build_ids_with_file(warehouse), *layout.build_ids_with_record(warehouse)}
    builds = []
    for build_id in sorted(known, reverse=True):
        size = _size(layout.build_file(warehouse, build_id))
        if build_id == live:
            state = BuildState.LIVE
        elif size is None:
            state = BuildState.REMOVED
        else:
            state = BuildState.KEPT if build_id in published else BuildState.WAITING
        record, problem = _record(warehouse, build_id)
        builds.append(KnownBuild(build_id, state, size, record, problem))
    return builds


def find_build(warehouse: Path, name: str) -> Path:
    """Give the file of a build.

    Args:
        warehouse: Folder of the warehouse.
        name: A build's name, or `live`.

    Raises:
        UsageError: There is no such build, or only its record is left.
    """
    if name == BuildState.LIVE:
        file = layout.published_file(warehouse)
        if file is None:
            raise UsageError(f"Nothing is published in {warehouse} yet: run `event-archive refresh` first.")
        return file
    if name not in layout.build_ids_with_file(warehouse):
        raise UsageError(f"{why_absent(warehouse, name)} `event-archive builds` lists what there is.")
    return layout.build_file(warehouse, name)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _record(warehouse: Path, build_id: str) -> tuple[BuildRecord | None, str | None]:
    try:
        return read_record(warehouse, build_id), None
    except BuildUnreadable as error:
        try:
            return read_build(layout.build_file(warehouse, build_id)), None
        except BuildUnreadable:
            return None, str(error)
