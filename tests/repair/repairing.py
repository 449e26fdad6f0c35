"""Repairing a project's stream from its copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.segments import segments_of
from event_archive.repair.stream import repair_stream
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.repair.stream import RepairReport
    from tests.conftest import Project


def copy_of(project: Project) -> FolderStore:
    """Where the copy of the stream's table lies."""
    return FolderStore(project.folder / "copy" / "events")


def repaired(project: Project, **more: object) -> RepairReport:
    """Repairs the stream from its copy."""
    return repair_stream(project.store, other=copy_of(project), **more)  # type: ignore[arg-type]


def flip(path: Path, at: int) -> None:
    """Flips a bit of a file."""
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << (at % 8)
    path.write_bytes(content)


def whole_needed(project: Project) -> set[str]:
    """Names of the files without which the archive isn't whole: not the entries that a segment has too."""
    sealed_until = max(segment.last for segment in segments_of(project.store))
    doubled = {layout.entry_name(version) for version in range(sealed_until + 1)}
    return {file.name for file in copy_of(project).files()} - doubled
