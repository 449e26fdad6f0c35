"""What tells the events of a partition, in their order, from any others: SHA-256 over all that a replay keeps.

Of each event, one after the other: its timestamp in milliseconds (-1 if it has none), its key, its value, the number of
its headers, and key and value of each; whatever has a length stands behind it, and -1 stands for null. Numbers have 8
bytes, lowest first. Offsets are no part of it: a topic gives new ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from event_archive.archive.columns import column

if TYPE_CHECKING:
    import numpy.typing as npt

_NUMBER_BYTES = 8
_NULL = -1
_NOTHING = pa.scalar(b"", pa.binary())
DIGESTED_COLUMNS = ("timestamp_ms", "key", "value", "headers")


@dataclass(frozen=True, slots=True)
class PartitionDigest:
    """The events of one partition, summed up."""

    events: int
    sha256: str


NO_EVENTS = PartitionDigest(0, hashlib.sha256().hexdigest())


class Digests:
    """Digests of the partitions of a topic, block by block."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[int, hashlib._Hash]] = {}

    def add(
        self, partitions: npt.NDArray[np.int32], timestamps_ms: npt.NDArray[np.int64], columns: pa.Table
    ) -> None:
        """Takes in the next events.

        Args:
            partitions: of each.
            timestamps_ms: of each, -1 for none.
            columns: key, value and headers of the envelope, each in one piece.
        """
        key, value = (columns[name].combine_chunks() for name in ("key", "value"))
        headers = columns["headers"].combine_chunks()
        parts = [_numbers(timestamps_ms), *_with_length(key), *_with_length(value), *_headers(headers)]
        events = pc.binary_join_element_wise(*parts, _NOTHING)
        order = np.argsort(partitions, kind="stable")
        starts = np.flatnonzero(np.diff(partitions[order], prepend=-1))
        for which in np.split(order, starts[1:]) if len(order) else []:
            partition = int(partitions[which[0]])
            count, digest = self._running.setdefault(partition, (0, hashlib.sha256()))
            digest.update(_bytes(events if len(starts) == 1 else events.take(column(pa.int64(), which))))
            self._running[partition] = count + len(which), digest

    def result(self) -> dict[int, PartitionDigest]:
        """Digests by partition; those without events are missing."""
        return {
            partition: PartitionDigest(count, digest.hexdigest())
            for partition, (count, digest) in self._running.items()
        }


def _numbers(values: npt.NDArray[np.int64]) -> pa.BinaryArray:
    """Each number as 8 bytes."""
    ends = np.arange(len(values) + 1, dtype=np.int32) * _NUMBER_BYTES
    return pa.Array.from_buffers(
        pa.binary(),
        len(values),
        [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(values, "<i8"))],
    )


def _with_length(values: pa.BinaryArray) -> tuple[pa.BinaryArray, pa.BinaryArray]:
    lengths = pc.binary_length(values).cast(pa.int64()).fill_null(_NULL)
    return _numbers(lengths.to_numpy(zero_copy_only=False)), values.fill_null(b"")


def _headers(headers: pa.ListArray) -> tuple[pa.BinaryArray, pa.BinaryArray]:
    """How many headers each event has, and all of them as one value. None and no headers are the same to Kafka."""
    counts = pc.list_value_length(headers).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    flat = headers.flatten()
    keys, values = flat.field(0).cast(pa.binary()), flat.field(1)
    joined = pc.binary_join_element_wise(*_with_length(keys), *_with_length(values), _NOTHING)
    ends = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=ends[1:])
    lists = pa.ListArray.from_arrays(column(pa.int32(), ends), joined)
    return _numbers(counts), pc.binary_join(lists, _NOTHING)


def _bytes(values: pa.BinaryArray) -> memoryview:
    """The bytes of all values, one after the other."""
    ends = np.frombuffer(values.buffers()[1], np.int32)
    first, last = int(ends[values.offset]), int(ends[values.offset + len(values)])
    return memoryview(values.buffers()[2] or b"")[first:last]
