"""What a table's log adds up to at a version: its files, its counts, its head.

What doesn't live here: positions of sources, which each source folds from the same commits.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import iter_commits, refuse_cut_off_log
from event_archive.archive.state import State, is_confirmed, readable_states
from event_archive.errors import ArchiveDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from event_archive.archive.log import Commit, DataFile
    from event_archive.storage.store import Store


_FETCHED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as one of its commits left it. `version` is -1 where there is no table yet."""

    table: Store
    version: int
    chain_hash: str | None
    """SHA-256 of the newest log entry, and so of the whole history."""
    files: tuple[DataFile, ...]
    events: int
    value_bytes: int
    ingested_at_us: int | None
    """Time of the newest commit, in microseconds since 1970 UTC."""
    state: State | None
    """Where the reading of the log began; None if with its first entry."""

    @property
    def commits(self) -> int:
        """Number of commits, the creation of the table included."""
        return self.version + 1

    def file_paths(self, files: Sequence[DataFile] | None = None) -> list[str]:
        """Absolute paths of the data files, or of some of them, on a local disk; far places are copied first.

        Raises:
            ArchiveDamaged: the log names a path outside the table, or a far place holds other bytes.
        """
        wanted = self.files if files is None else files
        if not self.table.is_far:
            return [str(local_file(self.table, file)) for file in wanted]
        with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
            return [str(path) for path in pool.map(lambda file: local_file(self.table, file), wanted)]


def local_file(table: Store, file: DataFile) -> Path:
    """Path of a data file on a local disk; see `Store.local_path`.

    Raises:
        ArchiveDamaged: the log names a path outside the table, or a far place holds other bytes.
    """
    name = layout.checked_data_file(file.path, table.url)
    return table.local_path(name, size_bytes=file.size_bytes, sha256=file.sha256)


def read_snapshot(
    table: Store,
    *,
    version: int | None = None,
    on_commit: Callable[[Commit], None] | None = None,
    may_be_cut_off: bool = False,
) -> Snapshot:
    """Reads the log up to `version` (None: all of it), from the newest state on.

    Args:
        table: the table; it need not exist.
        version: the commit to stop at.
        on_commit: called for what has to be taken in for positions and gaps, in order: commits, and in place of those before
            the state their abridged claims. Whoever needs each commit reads `history.iter_commits`.
        may_be_cut_off: read a table whose segments tell of newer entries than the log folder has, as a copy that is under way.

    Raises:
        ArchiveDamaged: see `iter_commits`; or entries were cut off.
    """
    if not may_be_cut_off:
        refuse_cut_off_log(table)
    for name, sha256, state in readable_states(table, until=version):
        try:
            commits = list(iter_commits(table, after=(state.version, state.entry_sha256)))
        except ArchiveDamaged:
            continue  # the state may be the one that is wrong: the whole log tells
        if is_confirmed(name, sha256, commits) and (version is None or version <= commits[-1].version):
            wanted = [commit for commit in commits if version is None or commit.version <= version]
            return _fold(table, state, wanted, on_commit)
    return _fold(table, None, iter_commits(table, until=version), on_commit)


def _fold(
    table: Store,
    state: State | None,
    commits: Iterable[Commit],
    on_commit: Callable[[Commit], None] | None,
) -> Snapshot:
    files = {file.path: file for file in state.files} if state else {}
    events, value_bytes = (state.events, state.value_bytes) if state else (0, 0)
    version, chain_hash, ingested_at_us = (
        (state.version, state.entry_sha256, state.ingested_at_us) if state else (-1, None, None)
    )
    if state and on_commit is not None:
        for abridged in state.abridged:
            on_commit(abridged.as_commit())
    for commit in commits:
        for path in commit.removed:
            files.pop(path, None)
        files.update((file.path, file) for file in commit.added)
        events += commit.events
        value_bytes += commit.value_bytes
        version, chain_hash, ingested_at_us = commit.version, commit.entry_sha256, commit.ingested_at_us
        if on_commit is not None:
            on_commit(commit)
    return Snapshot(
        table=table,
        version=version,
        chain_hash=chain_hash,
        files=tuple(files.values()),
        events=events,
        value_bytes=value_bytes,
        ingested_at_us=ingested_at_us,
        state=state,
    )
