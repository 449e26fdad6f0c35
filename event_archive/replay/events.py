"""Archived events in the order of the archive: by commit, and in a commit by partition and offset of the source.

That order never changes, whatever files hold the events, so a place in it (`Position`) says what is done and what isn't.
What doesn't live here: reading files in that order (`event_archive.archive.events_by_commit`), and where events go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from event_archive.archive.events_by_commit import rows_by_commit
from event_archive.archive.history import iter_commits
from event_archive.errors import UsageError
from event_archive.replay.selection import Bounds, Generations, Selection

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from event_archive.archive.log import Commit, DataFile
    from event_archive.config import Config

ROWS_A_BLOCK = 10_000
_NEEDED_COLUMNS = ("source_id", "source_partition", "source_offset", "event_time")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of the archive: before it are all earlier commits and the first `rows` rows of this one."""

    commit: int = 0
    rows: int = 0


BEGINNING = Position()


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring events of one commit."""

    events: pa.Table
    """Those that are replayed; their columns are in one piece each."""
    rows: npt.NDArray[np.bool_] | None
    """Which of the archive's rows up to `after` they are; None if all."""
    row_count: int
    """How many rows of the archive the block stands for."""
    after: Position


class ArchivedEvents:
    """The events of one table, as it stands now."""

    def __init__(self, config: Config, stream: str, bounds: Bounds) -> None:
        """Reads the log.

        Raises:
            UsageError: there is no such stream, or the bounds don't fit it.
            ArchiveDamaged: see `iter_commits`.
        """
        config.stream(stream)
        self._table = config.table(stream)
        self._scratch = config.cache.path / "scratch"
        self.generations = Generations()
        # What commits claim of their sources is not kept: of a thousand partitions, that would be much.
        self.commits: list[Commit] = []
        files: dict[str, DataFile] = {}
        for commit in iter_commits(self._table):
            self.generations.note(commit)
            for path in commit.removed:
                files.pop(path, None)
            files.update((file.path, file) for file in commit.added)
            self.commits.append(_without_details(commit))
        self._files = tuple(files.values())
        if not any(commit.events for commit in self.commits):
            raise UsageError(f"{stream}: nothing is archived yet; `event-archive ingest {stream}` does that.")
        self.selection = Selection(bounds, self.generations)

    @property
    def table_id(self) -> str:
        """What tells this table, and copies of it, from any other: the SHA-256 of its first log entry."""
        return self.commits[0].entry_sha256

    @property
    def end(self) -> Position:
        """Behind the newest event."""
        return Position(self.commits[-1].version, self.commits[-1].events)

    def events_before(self, position: Position) -> int:
        """Number of events before a position."""
        return sum(c.events for c in self.commits if c.version < position.commit) + position.rows

    def files(self) -> tuple[DataFile, ...]:
        """The data files."""
        return self._files

    def blocks(
        self,
        columns: Sequence[str],
        *,
        begin: Position = BEGINNING,
        end: Position | None = None,
        rows_a_block: int = ROWS_A_BLOCK,
    ) -> Generator[Block, None, None]:
        """The events between two positions.

        Args:
            columns: of the envelope; those that say where an event comes from are there anyway.
            begin: where to begin.
            end: where to end, by default behind the newest event.
            rows_a_block: a block stands for so many rows at most.

        Raises:
            ArchiveDamaged: a data file isn't the one that was committed.
        """
        needed = [*dict.fromkeys((*_NEEDED_COLUMNS, *columns))]
        end = end or self.end
        found = rows_by_commit(
            self._table,
            self._files,
            needed,
            scratch=self._scratch,
            begin=(begin.commit, begin.rows),
            end=(end.commit, end.rows),
        )
        for part in found:
            for start in range(0, part.rows.num_rows, rows_a_block):
                rows = part.rows.slice(start, rows_a_block)
                events, which = self.selection.pick(rows)
                after = Position(part.version, part.first_row + start + rows.num_rows)
                yield Block(events, which, rows.num_rows, after)


def _without_details(commit: Commit) -> Commit:
    """What is asked of a commit later on; of millions of them the rest would be much."""
    return replace(
        commit, added=(), removed=(), claims={}, digests=(), row_groups=(), compacted=None, sealed=None
    )
