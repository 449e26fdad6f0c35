"""Archived events in the order of the archive: by commit, and in a commit by partition and offset of the source.

That order never changes, so a place in it (`Position`) says what is done and what isn't. Every data file is proved to be
the one that was committed before anything in it is read. What doesn't live here: where events go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from event_archive.archive.data_file import open_data_file
from event_archive.archive.history import iter_commits
from event_archive.archive.log import REMEDY, Commit, DataFile
from event_archive.archive.snapshot import local_file
from event_archive.durable import sha256_of
from event_archive.errors import ArchiveDamaged, FileMissing, UsageError
from event_archive.replay.selection import Bounds, Generations, Selection

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from event_archive.config import Config
    from event_archive.storage.store import Store

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
        self.generations = Generations()
        # What commits claim of their sources is not kept: of a thousand partitions, that would be much.
        self.commits: list[Commit] = []
        for commit in iter_commits(self._table):
            self.generations.note(commit)
            self.commits.append(replace(commit, claims={}))
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

    def files(self) -> Iterator[DataFile]:
        """The data files, in order."""
        for commit in self.commits:
            yield from commit.added

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
        for commit in self.commits:
            if not begin.commit <= commit.version <= end.commit:
                continue
            at = 0
            first = begin.rows if commit.version == begin.commit else 0
            last = end.rows if commit.version == end.commit else commit.events
            for file in commit.added:
                if at < last and at + file.num_records > first:
                    yield from self._file_blocks(file, needed, at, (first, last), rows_a_block)
                at += file.num_records

    def _file_blocks(
        self,
        file: DataFile,
        columns: list[str],
        at: int,
        rows_wanted: tuple[int, int],
        rows_a_block: int,
    ) -> Iterator[Block]:
        first, last = rows_wanted
        with open_data_file(whole_file(self._table, file)) as opened:
            parquet = pq.ParquetFile(opened)
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                if at < last and at + size > first:
                    rows = parquet.read_row_group(group, columns=columns).combine_chunks()
                    skipped = max(first - at, 0)
                    for start in range(skipped, min(size, last - at), rows_a_block):
                        stop = min(start + rows_a_block, size, last - at)
                        events, which = self.selection.pick(rows.slice(start, stop - start))
                        yield Block(events, which, stop - start, Position(file.commit_version, at + stop))
                at += size


def whole_file(table: Store, file: DataFile) -> Path:
    """Path of a data file that is proved to be the one that was committed; nothing unproved is parsed.

    Raises:
        ArchiveDamaged: it isn't.
    """
    place = table.place(file.path)
    try:
        path = local_file(table, file)
        digest = sha256_of(path)
    except FileMissing as error:
        raise ArchiveDamaged(f"{place}: is missing. {REMEDY}") from error
    except OSError as error:
        raise ArchiveDamaged(f"{place}: can't be read ({error.strerror}). {REMEDY}") from error
    if digest != file.sha256:
        raise ArchiveDamaged(f"{place}: does not match its SHA-256. {REMEDY}")
    return path
