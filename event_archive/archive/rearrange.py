"""Rows in another order than the one in which they lie in files, however many they are, in bounded memory.

Rows come in stretches, each of which has a rank. What doesn't fit into memory is sorted and written to a nameless file on a local
disk, which vanishes with the process; in the end those sorted runs are merged. Each row is read, sorted, written and read again once,
whatever its old and its new place. What doesn't live here: what the ranks mean.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from event_archive.archive.columns import column, string_column
from event_archive.durable import storage_errors
from event_archive.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

MEMORY_BYTES = 2**26
"""How much is held before it is sorted and written away; up to three times as much is in use while that is done."""
_BATCH_BYTES = 2**20
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class Rearranger:
    """Takes rows and gives them back in order of the ranks of their stretches; use it as a context.

    Stretches of equal rank come back in the order in which they came.
    """

    def __init__(self, scratch: Path, *, memory_bytes: int = MEMORY_BYTES) -> None:
        """Writes nothing yet.

        Args:
            scratch: a folder on a local disk, made when needed, for what doesn't fit into memory.
            memory_bytes: how much to hold.
        """
        self._scratch = scratch
        self._memory_bytes = memory_bytes
        self._schema: pa.Schema = None
        self._dictionaries: dict[int, dict[str, int]] = {}
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._ranks: list[npt.NDArray[np.int64]] = []
        self._runs: list[_Run] = []
        self._file: int | None = None
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def spilled_bytes(self) -> int:
        """How much was written to the disk."""
        return self._end

    def add(self, rows: pa.Table, lengths: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]) -> None:
        """Takes rows.

        Args:
            rows: always with the same columns.
            lengths: how many rows each stretch has; together all.
            ranks: of the stretches.

        Raises:
            StorageError: the disk refused.
        """
        if not rows.num_rows:
            return
        if self._held and self._held_bytes + rows.nbytes > self._memory_bytes:
            self._spill()
        self._schema = self._schema or rows.schema
        encoded = self._encoded(rows)
        self._held.append(encoded)
        self._held_bytes += encoded.nbytes
        self._lengths.append(lengths)
        self._ranks.append(ranks)

    def rows(self, *, batch_rows: int, batch_bytes: int) -> Iterator[pa.Table]:
        """All rows, in order; to be called once, after the last `add`.

        Args:
            batch_rows: a table has so many rows at most.
            batch_bytes: and not many more bytes than so many.

        Raises:
            StorageError: the disk refused.
        """
        if self._held:
            if self._runs:
                self._spill()
            else:
                self._runs.append(self._sorted_run())
        if not self._runs:
            return
        ranks = np.concatenate([run.ranks for run in self._runs])
        lengths = np.concatenate([run.lengths for run in self._runs])
        of_run = np.repeat(np.arange(len(self._runs)), [len(run.ranks) for run in self._runs])
        order = np.lexsort((of_run, ranks))
        lengths, of_run = lengths[order], of_run[order]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(of_run)) + 1])
        counts = np.add.reduceat(lengths, starts)
        parts: list[pa.Table] = []
        waiting_rows = waiting_bytes = 0
        for number, count in zip(of_run[starts].tolist(), counts.tolist(), strict=True):
            left = count
            while left:
                part = self._runs[number].take(min(left, batch_rows - waiting_rows))
                parts.append(part)
                left -= part.num_rows
                waiting_rows += part.num_rows
                waiting_bytes += part.nbytes
                if waiting_rows >= batch_rows or waiting_bytes >= batch_bytes:
                    yield self._decoded(parts)
                    parts, waiting_rows, waiting_bytes = [], 0, 0
        if parts:
            yield self._decoded(parts)

    def _spill(self) -> None:
        run = self._sorted_run()
        if self._file is None:
            with storage_errors(self._scratch):
                self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
                with tempfile.TemporaryFile(dir=self._scratch, buffering=0) as file:
                    self._file = os.dup(file.fileno())
        with storage_errors(self._scratch):
            self._end = run.write_away(self._file, self._end)
        self._runs.append(run)

    def _sorted_run(self) -> _Run:
        lengths, ranks = np.concatenate(self._lengths), np.concatenate(self._ranks)
        order = np.argsort(ranks, kind="stable")
        starts = (np.cumsum(lengths) - lengths)[order]
        lengths, ranks = lengths[order], ranks[order]
        ends = np.cumsum(lengths)
        indices = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])
        held, self._held, self._lengths, self._ranks, self._held_bytes = self._held, [], [], [], 0
        whole = pa.concat_tables(held)
        del held
        if (np.diff(indices) != 1).any():
            place = column(pa.int64(), indices)
            schema, arrays = whole.schema, []
            for name in schema.names:  # one column after the other: memory
                chunk = _in_one_piece(whole[name])
                whole = whole.drop_columns([name])
                arrays.append(chunk.take(place))
            whole = pa.table(arrays, schema=schema)
        return _Run(ranks, lengths, _batches(whole))

    def _encoded(self, rows: pa.Table) -> pa.Table:
        """The same rows with numbers in place of dictionaries, which differ from row group to row group."""
        for index, field in enumerate(self._schema):
            if pa.types.is_dictionary(field.type):
                known = self._dictionaries.setdefault(index, {})
                chunks = [_codes(chunk, known) for chunk in rows.column(index).chunks]
                codes = pa.field(field.name, pa.int32())
                rows = rows.set_column(index, codes, pa.chunked_array(chunks, pa.int32()))
        return rows

    def _decoded(self, parts: list[pa.Table]) -> pa.Table:
        rows = pa.concat_tables(parts).combine_chunks()
        columns = rows.columns
        for index, known in self._dictionaries.items():
            codes = _in_one_piece(columns[index])
            used = np.unique(codes.drop_null().to_numpy())
            values = list(known)
            names = string_column([values[code] for code in used.tolist()])
            places = np.searchsorted(used, codes.fill_null(0).to_numpy()).astype(np.int32)
            indices = column(pa.int32(), places)
            if codes.null_count:
                indices = pc.if_else(codes.is_valid(), indices, pa.scalar(None, pa.int32()))
            columns[index] = pa.DictionaryArray.from_arrays(indices, names)
        return pa.table(columns, schema=self._schema)


class _Run:
    """Rows in order of rank, in memory or in a file, to be taken from the first on."""

    def __init__(
        self, ranks: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], batches: list[pa.Table]
    ) -> None:
        self.ranks = ranks
        self.lengths = lengths
        self._batches: list[pa.Table | _Written | None] = list(batches)
        self._next = 0
        self._open: pa.Table | None = None

    def write_away(self, file: int | None, end: int) -> int:
        """Writes what is in memory to a file from `end` on, and gives the new end."""
        assert file is not None  # noqa: S101 - for the type checker
        for number, batch in enumerate(self._batches):
            assert isinstance(batch, pa.Table)  # noqa: S101 - for the type checker
            buffer = pa.BufferOutputStream()
            with pa.ipc.new_stream(buffer, batch.schema, options=_OPTIONS) as stream:
                stream.write_table(batch)
            view = memoryview(buffer.getvalue())
            self._batches[number] = _Written(file, end, len(view), zlib.crc32(view))
            while view:
                written = os.pwrite(file, view, end)
                view, end = view[written:], end + written
        return end

    def take(self, count: int) -> pa.Table:
        """The next rows: at most so many, and at least one."""
        if self._open is None:
            batch, self._batches[self._next] = self._batches[self._next], None
            self._next += 1
            self._open = batch.load() if isinstance(batch, _Written) else batch
        assert self._open is not None  # noqa: S101 - for the type checker: each batch is taken once
        part, rest = self._open.slice(0, count), self._open.slice(count)
        self._open = rest if rest.num_rows else None
        return part


@dataclass(frozen=True, slots=True)
class _Written:
    """Rows that were written away."""

    file: int
    place: int
    size_bytes: int
    checksum: int

    def load(self) -> pa.Table:
        """The rows again."""
        parts, place, end = [], self.place, self.place + self.size_bytes
        while place < end:
            part = os.pread(self.file, end - place, place)
            if not part:
                break
            parts.append(part)
            place += len(part)
        content = b"".join(parts)
        if zlib.crc32(content) != self.checksum:
            raise StorageError(
                "A disk gave back other bytes than were written to it; nothing was built on them."
            )
        with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
            return stream.read_all()


def _batches(rows: pa.Table) -> list[pa.Table]:
    """Slices of about `_BATCH_BYTES`."""
    sizes = np.zeros(rows.num_rows, np.int64)
    for name in rows.column_names:
        if pa.types.is_binary(rows[name].type):
            sizes += pc.fill_null(pc.binary_length(rows[name]), 0).to_numpy()
    others = max(rows.nbytes - int(sizes.sum()), 0) // max(rows.num_rows, 1)
    ends = np.cumsum(sizes + others)
    batches = []
    start = 0
    while start < rows.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _BATCH_BYTES, side="right")), start + 1)
        batches.append(rows.slice(start, stop - start))
        start = stop
    return batches


def _in_one_piece(values: pa.ChunkedArray) -> pa.Array:
    whole = values.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _codes(array: pa.DictionaryArray, known: dict[str, int]) -> pa.Array:
    """Indices of an array of one dictionary as those of another, which grows."""
    names: list[Any] = array.dictionary.to_pylist()
    codes = np.array([known.setdefault(name, len(known)) for name in names] or [0], np.int32)
    indices = array.indices
    plain = codes[(indices.fill_null(0) if indices.null_count else indices).to_numpy()]
    there = column(pa.int32(), plain)
    return pc.if_else(indices.is_valid(), there, pa.scalar(None, pa.int32())) if indices.null_count else there
