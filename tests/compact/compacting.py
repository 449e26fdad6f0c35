"""Compacting a project's stream, and the files of its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from event_archive.compaction.days import CompactResult, compact_stream

if TYPE_CHECKING:
    from event_archive.storage.store import Store
    from tests.conftest import Project


def compacted(project: Project, **options: Any) -> CompactResult:
    """Compacts the project's stream."""
    return compact_stream(project.config(), "events", **options)


def names_in(table: Store) -> set[str]:
    """Every file of a table."""
    return {file.name for file in table.files()}
