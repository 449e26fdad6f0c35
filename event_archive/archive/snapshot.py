"""What a table's log adds up to at a version: its files, its counts, its head.

What doesn't live here: positions of sources, which each source folds from the same commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.log import Commit, DataFile, iter_commits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as one of its commits left it. `version` is -1 where there is no table yet."""

    table: Path
    version: int
    chain_hash: str | None
    """SHA-256 of the newest log entry, and so of the whole history."""
    files: tuple[DataFile, ...]
    events: int
    value_bytes: int
    ingested_at_us: int | None
    """Time of the newest commit, in microseconds since 1970 UTC."""

    @property
    def commits(self) -> int:
        """Number of commits, the creation of the table included."""
        return self.version + 1

    def file_paths(self) -> list[str]:
        """Absolute paths of the data files.

        Raises:
            ArchiveDamaged: the log names a path outside the table.
        """
        return [str(layout.resolve_data_file(self.table.absolute(), file.path)) for file in self.files]


def read_snapshot(
    table: Path, *, version: int | None = None, on_commit: Callable[[Commit], None] | None = None
) -> Snapshot:
    """Reads the log up to `version` (None: all of it).

    Args:
        table: folder of the table; it need not exist.
        version: the commit to stop at.
        on_commit: called for each commit in order, for folds of the caller's own.

    Raises:
        ArchiveDamaged: see `iter_commits`.
    """
    files: dict[str, DataFile] = {}
    newest: Commit | None = None
    events = value_bytes = 0
    for commit in iter_commits(table, until=version):
        for path in commit.removed:
            files.pop(path, None)
        files.update((file.path, file) for file in commit.added)
        events += commit.events
        value_bytes += commit.value_bytes
        newest = commit
        if on_commit is not None:
            on_commit(commit)
    return Snapshot(
        table=table,
        version=newest.version if newest else -1,
        chain_hash=newest.entry_sha256 if newest else None,
        files=tuple(files.values()),
        events=events,
        value_bytes=value_bytes,
        ingested_at_us=newest.ingested_at_us if newest else None,
    )
