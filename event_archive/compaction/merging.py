"""Merging data files into one that takes their place: sorted by source, partition and offset, and proved by reading it back.

What doesn't live here: which files are merged, and the commit that makes the result part of the table (`event_archive.compaction.days`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.archive.data_file import DataFileWriter, WrittenFile, open_data_file
from event_archive.archive.log import REMEDY
from event_archive.archive.rearrange import Rearranger
from event_archive.archive.row_digest import NEEDED_COLUMNS, RowDigester, SpanDigest
from event_archive.archive.span_table import SpanTable, commit_range, commits_between
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from event_archive.archive.log import DataFile
    from event_archive.storage.store import Store

ROW_GROUP_ROWS = 2**17
ROW_GROUP_BYTES = 2**26
_DAY_US = 86_400_000_000
_STORED_COLUMNS = ("ingested_at", "ingest_date", "commit_version")


@dataclass(frozen=True, slots=True)
class Merged:
    """Files that hold what other files hold, in order; no commit refers to them."""

    files: tuple[WrittenFile, ...]
    events: int
    spans: int


def merge_files(
    table: Store,
    files: Sequence[DataFile],
    *,
    limit_bytes: int,
    scratch: Path,
    on_bytes: Callable[[int], None] = lambda _bytes: None,
) -> Merged:
    """Writes the rows of `files` into new files, and proves that they hold them.

    Each file is proved by its SHA-256 before anything in it is read, and what was written is read again from the store: the rows of each
    span must give the digest that the commit which brought them recorded, in the order in which they must lie.

    Args:
        table: their table.
        files: of one `ingest_date`.
        limit_bytes: a file that is so large ends with the span that is being written.
        scratch: a folder on a local disk for what doesn't fit into memory.
        on_bytes: called with bytes of `files` as they are read, and once more as they are written again.

    Raises:
        ArchiveDamaged: a file isn't the one that was committed, or what was written is not what was read. Nothing new is left.
        StorageError: the place refused. Nothing new is left.
    """
    ranges = [commit_range(file) for file in files]
    spans = SpanTable(
        commits_between(table, min(first for first, _ in ranges), max(last for _, last in ranges))
    )
    ranks = spans.sorted_ranks()
    total_bytes = sum(file.size_bytes for file in files)
    with Rearranger(scratch) as rearranger:
        counts = np.zeros(len(spans), np.int64)
        for file in files:
            _take_in(table, file, spans, counts, (ranks, rearranger))
            on_bytes(file.size_bytes)
        held = np.flatnonzero(counts)
        if not np.array_equal(counts[held], spans.events[held]):
            wrong = held[np.flatnonzero(counts[held] != spans.events[held])[0]]
            raise ArchiveDamaged(
                f"{table.url}: the files to be merged hold other events of {spans.source_ids[spans.sources[wrong]]} than commit "
                f"{spans.versions[wrong]} has brought. {REMEDY}"
            )
        held = held[np.argsort(ranks[held])]
        date = layout.ingest_date_of(files[0].path)
        writer = _Writer(table, date, spans, held, limit_bytes)
        try:
            for rows in rearranger.rows(batch_rows=ROW_GROUP_ROWS, batch_bytes=ROW_GROUP_BYTES):
                writer.write(rows)
                on_bytes(total_bytes * rows.num_rows // int(spans.events[held].sum()))
            written = writer.finish()
        except BaseException:
            writer.abandon()
            raise
    try:
        _prove_all(table, written, spans, held)
    except BaseException:
        remove(table, written)
        raise
    return Merged(written, int(spans.events[held].sum()), len(held))


def remove(table: Store, files: Sequence[WrittenFile]) -> None:
    """Removes files that no commit refers to, and none will."""
    for file in files:
        table.delete(file.path)


def _take_in(
    table: Store,
    file: DataFile,
    spans: SpanTable,
    counts: npt.NDArray[np.int64],
    into: tuple[npt.NDArray[np.int64], Rearranger],
) -> None:
    """Reads one of the files that are merged, proved before."""
    ranks, rearranger = into
    place = table.place(file.path)
    name = layout.checked_data_file(file.path, table.url)
    try:
        with table.hashed(name) as hashed:
            if (hashed.size_bytes, hashed.sha256) != (file.size_bytes, file.sha256):
                raise ArchiveDamaged(f"{place}: does not match its SHA-256. {REMEDY}")
            undigested = _Undigested(spans)
            for rows in _row_groups(hashed.path):
                lengths, which = spans.stretches(rows, place)
                np.add.at(counts, which, lengths)
                undigested.note(rows, lengths, which)
                rearranger.add(rows, lengths, ranks[which])
            undigested.finish()
    except FileMissing as error:
        raise ArchiveDamaged(f"{place}: is missing. {REMEDY}") from error


def _row_groups(path: Path) -> Iterator[pa.Table]:
    with open_data_file(path) as opened:
        parquet = pq.ParquetFile(opened)
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group).combine_chunks().unify_dictionaries()


class _Undigested:
    """Row digests of spans whose commits recorded none (format 1), taken from the proved file that has them."""

    def __init__(self, spans: SpanTable) -> None:
        self._spans = spans
        self._digester = RowDigester()
        self._open: int | None = None

    def note(self, rows: pa.Table, lengths: npt.NDArray[np.int64], which: npt.NDArray[np.int64]) -> None:
        if self._spans.digests[which].all() and self._open is None:
            return
        at = 0
        for length, span in zip(lengths.tolist(), which.tolist(), strict=True):
            if span != self._open:
                self.finish()
                if not self._spans.digests[span]:
                    self._open = span
            if self._open is not None:
                self._digester.update(rows.slice(at, length))
            at += length

    def finish(self) -> None:
        if self._open is not None:
            (digest,) = self._digester.take()
            self._spans.digests[self._open] = digest.sha256.encode()
            self._open = None


class _Writer:
    """Writes sorted rows to files; each ends with the span in which it has become large enough."""

    def __init__(
        self, table: Store, date: str, spans: SpanTable, held: npt.NDArray[np.int64], limit_bytes: int
    ) -> None:
        self._table = table
        self._date = date
        self._spans = spans
        self._held = held
        self._ends = np.cumsum(spans.events[held])
        self._limit_bytes = limit_bytes
        self._rows = 0
        self._ends_at: int | None = None
        self._first_span = 0
        self._writer: DataFileWriter | None = None
        self._finished: list[WrittenFile] = []

    def write(self, rows: pa.Table) -> None:
        """Appends rows."""
        while rows.num_rows:
            if self._writer is None:
                name = layout.compacted_file_name(self._date, secrets.token_hex(16))
                self._writer = DataFileWriter(self._table, name)
            part = rows if self._ends_at is None else rows.slice(0, self._ends_at - self._rows)
            self._writer.write_row_group(part)
            self._rows += part.num_rows
            rows = rows.slice(part.num_rows)
            if self._ends_at is None and self._writer.size_bytes >= self._limit_bytes:
                self._ends_at = int(self._ends[np.searchsorted(self._ends, self._rows)])
            if self._rows == self._ends_at:
                self._finish_file()

    def _finish_file(self) -> None:
        assert self._writer is not None  # noqa: S101 - for the type checker
        written = self._writer.finish()
        after = int(np.searchsorted(self._ends, self._rows, side="right"))
        digests = tuple(map(self._digest, self._held[self._first_span : after].tolist()))
        # The writer can't tell spans of one partition apart, which lie side by side here.
        self._finished.append(replace(written, digests=digests))
        self._first_span, self._ends_at, self._writer = after, None, None

    def _digest(self, span: int) -> SpanDigest:
        spans = self._spans
        return SpanDigest(
            spans.source_ids[spans.sources[span]],
            int(spans.partitions[span]),
            int(spans.events[span]),
            spans.digests[span].decode(),
        )

    def finish(self) -> tuple[WrittenFile, ...]:
        """The files, durable."""
        if self._writer is not None:
            self._finish_file()
        return tuple(self._finished)

    def abandon(self) -> None:
        """Removes all that was written."""
        if self._writer is not None:
            self._writer.abandon()
        remove(self._table, self._finished)


def _prove_all(
    table: Store, written: Sequence[WrittenFile], spans: SpanTable, expected: npt.NDArray[np.int64]
) -> None:
    """Reads files back: they must hold these spans, one file's behind the other's."""
    first = 0
    for new in written:
        _prove(table, new, spans, expected[first : first + len(new.digests)])
        first += len(new.digests)
    if first != len(expected):
        raise ArchiveDamaged(
            f"{table.url}: what was merged has fewer or more spans than what it was merged from; nothing was replaced."
        )


def _prove(table: Store, new: WrittenFile, spans: SpanTable, expected: npt.NDArray[np.int64]) -> None:
    """Reads a file back from the store: it must hold these spans, in this order, and nothing else."""
    place = table.place(new.path)
    digester = RowDigester()
    ends = np.cumsum(spans.events[expected])
    at = 0
    with table.hashed(new.path) as hashed:
        if (hashed.size_bytes, hashed.sha256) != (new.size_bytes, new.sha256):
            raise ArchiveDamaged(
                f"{place}: the store gave back other bytes than were written; nothing was replaced."
            )
        with open_data_file(hashed.path) as opened:
            parquet = pq.ParquetFile(opened)
            if parquet.metadata.num_rows != int(ends[-1]):
                raise ArchiveDamaged(
                    f"{place}: has {parquet.metadata.num_rows} rows instead of {ends[-1]}; nothing was replaced."
                )
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, columns=[*NEEDED_COLUMNS, *_STORED_COLUMNS])
                places = np.arange(at, at + rows.num_rows)
                of_span = np.searchsorted(ends, places, side="right")
                _prove_stored(rows, spans, expected[of_span], place)
                starts = np.concatenate([[0], np.flatnonzero(np.diff(of_span)) + 1])
                afters = np.append(starts[1:], rows.num_rows)
                digester.update(rows, ends=afters[at + afters == ends[of_span[starts]]].tolist())
                at += rows.num_rows
    found = [digest.sha256.encode() for digest in digester.take()]
    wanted = spans.digests[expected].tolist()
    if found != wanted:
        wrong = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), 0)
        span = expected[wrong]
        raise ArchiveDamaged(
            f"{place}: the events of {spans.source_ids[spans.sources[span]]} partition {spans.partitions[span]} that commit "
            f"{spans.versions[span]} has brought are not the same in it; nothing was replaced."
        )


def _prove_stored(rows: pa.Table, spans: SpanTable, of_row: npt.NDArray[np.int64], place: str) -> None:
    """What is the same for all rows of a span must be what it was."""
    times = spans.ingested_at_us[of_row]
    wanted = {
        "ingested_at": times,
        "ingest_date": times // _DAY_US,
        "commit_version": spans.versions[of_row],
        "source_partition": spans.partitions[of_row],
    }
    for name, values in wanted.items():
        kind = pa.int64() if name in ("ingested_at", "commit_version") else pa.int32()
        if not np.array_equal(rows[name].cast(kind).to_numpy(), values):
            raise ArchiveDamaged(f"{place}: holds another {name} than the commits; nothing was replaced.")
    if not np.array_equal(spans.source_codes(rows), spans.sources[of_row]):
        raise ArchiveDamaged(f"{place}: holds another source_id than the commits; nothing was replaced.")
