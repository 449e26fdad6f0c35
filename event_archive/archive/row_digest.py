"""Row digests: what proves that a file holds the same events as another, however they are stored.

A row digest is about one span, the rows that one commit brought of one partition of a source, in order of offset. It is the
SHA-256 of

    "event-archive row digest 1" NUL, source id in UTF-8, NUL, partition (int32), number of rows (int64),
    the SHA-256 of each of six columns:
      rows            per row: offset, event_time, timestamp_ms, length of key, length of value (int64 each), number of
                      headers (int64), flags (uint8: 1 event_time is there, 2 timestamp_ms is there, 4 create_time,
                      8 log_append_time); a null number is 0, the length of a null and the number of null headers are -1
      keys            their bytes, one behind the other
      values          the same
      header lengths  per header: length of its key, length of its value (int64 each)
      header keys     their bytes
      header values   the same

with all numbers little-endian. It doesn't depend on files, row groups or chunks, so the digests that a commit records prove
any later file with its rows. Columns are hashed as they lie in memory: there is no work per event in Python.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from event_archive.archive.columns import column, numbers, string_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_PREFIX = b"event-archive row digest 1\0"
_ROW = np.dtype(
    [
        ("offset", "<i8"),
        ("event_time", "<i8"),
        ("timestamp_ms", "<i8"),
        ("key_length", "<i8"),
        ("value_length", "<i8"),
        ("headers", "<i8"),
        ("flags", "u1"),
    ]
)
_TYPE_FLAGS = {"create_time": 4, "log_append_time": 8}
_COLUMNS = 6
_ZEROS = {
    pa.int64(): column(pa.int64(), np.zeros(1, np.int64))[0],
    pa.int32(): column(pa.int32(), np.zeros(1, np.int32))[0],
    pa.binary(): string_column([""]).cast(pa.binary())[0],
}
NEEDED_COLUMNS = (
    "source_id",
    "source_partition",
    "source_offset",
    "event_time",
    "timestamp_ms",
    "timestamp_type",
    "key",
    "value",
    "headers",
)
"""Columns of the envelope that a row digest is about."""


@dataclass(frozen=True, slots=True)
class SpanDigest:
    """The row digest of one span."""

    source_id: str
    partition: int
    events: int
    sha256: str


class RowDigester:
    """Digests spans as their rows come along; memory is bounded by what is given at once."""

    def __init__(self) -> None:
        self._finished: list[SpanDigest] = []
        self._open: _OpenSpan | None = None

    def update(self, rows: pa.Table, *, ends: Sequence[int] = ()) -> None:
        """Takes in rows, each span's in order of offset, a span's rows one after the other.

        Args:
            rows: with at least `NEEDED_COLUMNS`.
            ends: numbers of rows, ascending, after which a span ends although the next is of the same partition. (A call
                for each such span would take ten times as long where they are small.)

        Raises:
            ValueError: a timestamp has a type that the envelope doesn't know.
        """
        at = 0
        for batch in rows.select(NEEDED_COLUMNS).combine_chunks().to_batches():
            self._update(batch, {end - at for end in ends})
            at += batch.num_rows

    def end_span(self) -> None:
        """Ends the span at hand: the next row begins another, be it of the same partition."""
        if self._open is not None:
            self._finished.append(self._open.finish())
            self._open = None

    def take(self) -> list[SpanDigest]:
        """Ends the span at hand, and gives and forgets the digests of all spans so far, in their order."""
        self.end_span()
        finished, self._finished = self._finished, []
        return finished

    def _update(self, batch: pa.RecordBatch, ends: set[int]) -> None:
        if not batch.num_rows:
            return
        columns = _Columns(batch)
        source, partitions = batch["source_id"], numbers(batch["source_partition"])
        if not pa.types.is_dictionary(source.type):
            source = source.dictionary_encode()
        indices = numbers(source.indices)
        starts = np.flatnonzero((np.diff(indices) != 0) | (np.diff(partitions) != 0)) + 1
        inner = {end for end in ends if 0 < end < batch.num_rows}
        bounds = [0, *sorted(inner.union(starts.tolist())), batch.num_rows]
        names = source.dictionary.to_pylist()
        for first, after in pairwise(bounds):
            key = (names[int(indices[first])], int(partitions[first]))
            if self._open is None or self._open.key != key:
                self.end_span()
                self._open = _OpenSpan(key)
            self._open.update(columns, first, after)
            if after in ends:
                self.end_span()


class _OpenSpan:
    def __init__(self, key: tuple[str, int]) -> None:
        self.key = key
        self._events = 0
        self._digests = [hashlib.sha256() for _ in range(_COLUMNS)]

    def update(self, columns: _Columns, first: int, after: int) -> None:
        self._events += after - first
        for digest, data in zip(self._digests, columns.slices(first, after), strict=True):
            digest.update(data)

    def finish(self) -> SpanDigest:
        source_id, partition = self.key
        digest = hashlib.sha256(_PREFIX + source_id.encode() + b"\0")
        digest.update(struct.pack("<iq", partition, self._events))
        for of_column in self._digests:
            digest.update(of_column.digest())
        return SpanDigest(source_id, partition, self._events, digest.hexdigest())


class _Columns:
    """The columns of a batch as memory that can be hashed piece by piece."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        rows = np.zeros(batch.num_rows, _ROW)
        rows["offset"] = numbers(batch["source_offset"])
        for flag, name in ((1, "event_time"), (2, "timestamp_ms")):
            times = batch[name].cast(pa.int64())
            rows[name] = numbers(_filled(times) if times.null_count else times)
            rows["flags"] += flag * _is_there(times)
        rows["flags"] += _type_flags(batch["timestamp_type"])
        self._keys, self._key_ends, rows["key_length"] = _binary(batch["key"])
        self._values, self._value_ends, rows["value_length"] = _binary(batch["value"])
        self._take_headers(batch["headers"], rows)
        self._rows = rows.view(np.uint8)

    def _take_headers(self, headers: pa.ListArray, rows: npt.NDArray[Any]) -> None:
        lengths = headers.value_lengths()
        counts = numbers(_filled(lengths) if lengths.null_count else lengths)
        rows["headers"] = np.where(_is_there(headers), counts, -1)
        self._header_ends = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=self._header_ends[1:])
        items = headers.flatten()  # leaves out what a null list covers
        self._header_keys, self._header_key_ends, key_lengths = _binary(items.field("key").cast(pa.binary()))
        self._header_values, self._header_value_ends, value_lengths = _binary(items.field("value"))
        self._header_lengths = np.ascontiguousarray(np.column_stack([key_lengths, value_lengths]), "<i8")

    def slices(self, first: int, after: int) -> tuple[Any, ...]:
        """The memory of the six columns for rows from `first` up to `after`."""
        header, next_header = self._header_ends[first], self._header_ends[after]
        return (
            self._rows[first * _ROW.itemsize : after * _ROW.itemsize],
            self._keys[self._key_ends[first] : self._key_ends[after]],
            self._values[self._value_ends[first] : self._value_ends[after]],
            self._header_lengths[header:next_header].tobytes(),
            self._header_keys[self._header_key_ends[header] : self._header_key_ends[next_header]],
            self._header_values[self._header_value_ends[header] : self._header_value_ends[next_header]],
        )


def _is_there(array: pa.Array) -> npt.NDArray[np.uint8]:
    if not array.null_count:
        return np.ones(len(array), np.uint8)
    there: npt.NDArray[np.uint8] = numbers(array.is_valid().cast(pa.uint8()))
    return there


def _type_flags(types: pa.Array) -> npt.NDArray[np.uint8]:
    if types.null_count == len(types):
        return np.zeros(len(types), np.uint8)
    if not pa.types.is_dictionary(types.type):
        types = types.dictionary_encode()
    known = types.dictionary.to_pylist()
    if unknown := set(known) - set(_TYPE_FLAGS):
        raise ValueError(f"no type of a timestamp: {sorted(map(repr, unknown))}")
    flags = np.array([_TYPE_FLAGS[name] for name in known], np.uint8)
    indices = types.indices
    places = numbers(_filled(indices) if indices.null_count else indices)
    chosen: npt.NDArray[np.uint8] = np.where(_is_there(indices), flags[places], 0)
    return chosen


def _filled(array: pa.Array) -> pa.Array:
    """The same with zeros, or nothing, for nulls; a Python value would have pyarrow import pandas wherever it is installed."""
    return array.fill_null(_ZEROS[array.type])


def _binary(
    array: pa.BinaryArray,
) -> tuple[memoryview, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The bytes of an array of binaries, where each begins (and the last ends), and each one's length, -1 for null."""
    has_nulls = array.null_count > 0
    there = _is_there(array) if has_nulls else None
    if has_nulls:
        array = _filled(array)  # a null may cover bytes in memory
    _, offsets, data = array.buffers()
    if offsets is None or not len(array):
        return memoryview(b""), np.zeros(1, np.int64), np.zeros(0, np.int64)
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    lengths = np.diff(ends)
    if there is not None:
        lengths = np.where(there, lengths, -1)
    return memoryview(data) if data is not None else memoryview(b""), ends, lengths
