"""The rows of a table in the order of its commits, whatever files hold them now; that order never changes.

A file that a commit brought is read as it lies. Files that took the place of others are sorted by partition: of those that hold rows of
the same commits, all are read once and rearranged, in bounded memory. Every data file is proved to be the one that was committed before anything
in it is read. What doesn't live here: which rows are wanted (`event_archive.replay`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from event_archive.archive.columns import column
from event_archive.archive.data_file import open_data_file
from event_archive.archive.log import REMEDY, DataFile
from event_archive.archive.rearrange import Rearranger
from event_archive.archive.snapshot import local_file, read_snapshot
from event_archive.archive.span_table import PLACE_COLUMNS, SpanTable, commit_range, commits_between
from event_archive.durable import sha256_of
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from event_archive.storage.store import Store

_BATCH_ROWS = 2**17
_BATCH_BYTES = 2**24

Place = tuple[int, int]
"""A commit, and a number of its rows: before it are all rows of earlier commits, and so many of this one."""


@dataclass(frozen=True, slots=True)
class CommitRows:
    """Neighbouring rows of one commit."""

    version: int
    first_row: int
    """Number of rows of the commit before them."""
    rows: pa.Table
    """Each column is in one piece."""

    @property
    def after(self) -> Place:
        """The place behind them."""
        return self.version, self.first_row + self.rows.num_rows


def rows_by_commit(
    table: Store,
    files: Sequence[DataFile],
    columns: Sequence[str],
    *,
    scratch: Path,
    begin: Place = (0, 0),
    end: Place | None = None,
) -> Iterator[CommitRows]:
    """The rows of some files in the order of their commits, and in a commit as it brought them.

    A file that is gone since a compaction has replaced it is no reason to end: its rows are read from where they are now.

    Args:
        table: the table.
        files: those that were part of it at a version.
        columns: those that are wanted; only they are decoded.
        scratch: a folder on a local disk for what doesn't fit into memory.
        begin: where to begin.
        end: where to end; behind the newest row of the files if not given.

    Raises:
        ArchiveDamaged: a data file isn't the one that was committed, or holds other rows than the log says.
        StorageError: the place refused.
    """
    if not files:
        return
    end = end or (max(commit_range(file)[1] for file in files) + 1, 0)
    while True:
        try:
            for rows in _rows(table, files, columns, scratch, (begin, end)):
                yield rows
                begin = rows.after
        except _Gone as error:
            snapshot = read_snapshot(table)
            if error.file in snapshot.files:
                raise
            files = snapshot.files
        else:
            return


class _Gone(ArchiveDamaged):
    """A data file is missing."""

    def __init__(self, message: str, file: DataFile) -> None:
        super().__init__(message)
        self.file = file


def whole_file(table: Store, file: DataFile) -> Path:
    """Path of a data file that is proved to be the one that was committed; nothing unproved is parsed.

    Raises:
        ArchiveDamaged: it isn't.
    """
    place = table.place(file.path)
    try:
        path = local_file(table, file)
        digest = sha256_of(path)
    except (FileMissing, FileNotFoundError) as error:
        raise _Gone(f"{place}: is missing. {REMEDY}", file) from error
    except OSError as error:
        raise ArchiveDamaged(f"{place}: can't be read ({error.strerror}). {REMEDY}") from error
    if digest != file.sha256:
        raise ArchiveDamaged(f"{place}: does not match its SHA-256. {REMEDY}")
    return path


def _rows(
    table: Store,
    files: Iterable[DataFile],
    columns: Sequence[str],
    scratch: Path,
    bounds: tuple[Place, Place],
) -> Iterator[CommitRows]:
    begin, end = bounds
    for group in _groups(files):
        first, last = commit_range(group[0])[0], max(commit_range(file)[1] for file in group)
        if (last, _number_of_rows(group)) <= begin or (first, 0) >= end:
            continue
        if len(group) == 1 and group[0].commit_version == first:
            found = _as_it_lies(table, group[0], columns, bounds)
        else:
            within = (max(first, begin[0]), min(last, end[0]))
            found = _cut(_rearranged(table, group, columns, scratch, within), bounds)
        yield from found


def _number_of_rows(files: Iterable[DataFile]) -> int:
    return sum(file.num_records for file in files)


def _groups(files: Iterable[DataFile]) -> Iterator[list[DataFile]]:
    """Files that hold rows of the same commits together, in the order of commits."""
    group: list[DataFile] = []
    last = -1
    for file in sorted(files, key=commit_range):
        lowest, highest = commit_range(file)
        if group and lowest > last:
            yield group
            group = []
        group.append(file)
        last = max(last, highest)
    if group:
        yield group


def _as_it_lies(
    table: Store, file: DataFile, columns: Sequence[str], bounds: tuple[Place, Place]
) -> Iterator[CommitRows]:
    """Rows of a file that a commit brought."""
    version = file.commit_version
    (begin_version, begin_row), (end_version, end_row) = bounds
    begin = begin_row if version == begin_version else 0
    end = end_row if version == end_version else file.num_records
    with open_data_file(whole_file(table, file)) as opened:
        parquet = pq.ParquetFile(opened)
        at = 0
        for group in range(parquet.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            if at < end and at + size > begin:
                rows = parquet.read_row_group(group, columns=list(columns)).combine_chunks()
                skipped = max(begin - at, 0)
                yield CommitRows(version, at + skipped, rows.slice(skipped, end - at - skipped))
            at += size


def _rearranged(
    table: Store, files: Sequence[DataFile], columns: Sequence[str], scratch: Path, within: tuple[int, int]
) -> Iterator[CommitRows]:
    """Rows of files that hold the same commits: those of the commits `within`, whole ones."""
    spans = SpanTable(commits_between(table, *within))
    seen = np.zeros(len(spans), np.int64)
    needed = list(dict.fromkeys((*PLACE_COLUMNS, *columns)))
    with Rearranger(scratch) as rearranger:
        for file in files:
            for rows in _rows_within(whole_file(table, file), needed, within):
                lengths, which = spans.stretches(rows, table.place(file.path))
                np.add.at(seen, which, lengths)
                rearranger.add(rows, lengths, which)
        if not np.array_equal(seen, spans.events):
            version = spans.versions[np.flatnonzero(seen != spans.events)[0]]
            raise ArchiveDamaged(
                f"{table.url}: the data files don't hold the events that commit {version} has brought. {REMEDY}"
            )
        current, at = -1, 0
        for rows in rearranger.rows(batch_rows=_BATCH_ROWS, batch_bytes=_BATCH_BYTES):
            versions = rows["commit_version"].to_numpy()
            starts = np.concatenate([[0], np.flatnonzero(np.diff(versions)) + 1, [len(versions)]])
            wanted = rows.select(columns)
            for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
                version = int(versions[start])
                at = at if version == current else 0
                yield CommitRows(version, at, wanted.slice(start, stop - start))
                current, at = version, at + stop - start


def _rows_within(path: Path, columns: list[str], within: tuple[int, int]) -> Iterator[pa.Table]:
    """Row by row group what a file has of some commits."""
    first, last = within
    with open_data_file(path) as opened:
        parquet = pq.ParquetFile(opened)
        place = parquet.metadata.schema.names.index("commit_version")
        for group in range(parquet.num_row_groups):
            known = parquet.metadata.row_group(group).column(place).statistics
            lowest, highest = (known.min, known.max) if known and known.has_min_max else (-1, last + 1)
            if lowest > last or highest < first:
                continue
            rows = parquet.read_row_group(group, columns=columns).combine_chunks().unify_dictionaries()
            if lowest < first or highest > last:
                versions = rows["commit_version"].to_numpy()
                chosen = np.flatnonzero((versions >= first) & (versions <= last))
                rows = rows.take(column(pa.int64(), chosen)).combine_chunks()
            yield rows


def _cut(found: Iterable[CommitRows], bounds: tuple[Place, Place]) -> Iterator[CommitRows]:
    """Those between two places."""
    begin, end = bounds
    for rows in found:
        skipped = begin[1] - rows.first_row if rows.version == begin[0] else 0
        stop = end[1] - rows.first_row if rows.version == end[0] else rows.rows.num_rows
        skipped, stop = max(skipped, 0), min(stop, rows.rows.num_rows)
        if stop > skipped:
            yield CommitRows(rows.version, rows.first_row + skipped, rows.rows.slice(skipped, stop - skipped))
