"""With which partition and timestamp an archived event is written to a topic.

For a topic with another number of partitions keys decide, as by default in Kafka's Java clients: murmur2 over the key
(org.apache.kafka.common.utils.Utils.murmur2). Events without a key, which those clients scatter, follow the partition that
they came from, so that their order is kept. What doesn't live here: writing them (`topic`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from event_archive.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

_SEED = np.uint32(0x9747B28C)
_M = np.uint32(0x5BD1E995)
_WORD_BYTES = 4
_POSITIVE = np.uint32(0x7FFFFFFF)
_NO_TIMESTAMP_MS = -1


class Mapping(StrEnum):
    """Which partition an event goes to."""

    same = "same"
    hash = "hash"


@dataclass(frozen=True, slots=True)
class Route:
    """How events become those of the topic."""

    mapping: Mapping
    partition_count: int
    """Of the topic."""
    zero_timestamp_ms: int | None
    """Written instead of a timestamp of 0, which librdkafka takes for "now"."""

    def partitions(self, events: pa.Table) -> npt.NDArray[np.int32]:
        """Partition of the topic that each event goes to."""
        own: npt.NDArray[np.int32] = events["source_partition"].to_numpy()
        if self.mapping == Mapping.same:
            return own
        return hashed_partitions(events["key"].combine_chunks(), own, self.partition_count)

    def timestamps_ms(self, events: pa.Table) -> npt.NDArray[np.int64]:
        """Timestamp of each event, -1 for none.

        Raises:
            UsageError: an event has the timestamp 0, and nothing was said of what to write instead.
        """
        column = events["timestamp_ms"].combine_chunks()
        stamps: npt.NDArray[np.int64] = column.fill_null(_NO_TIMESTAMP_MS).to_numpy(zero_copy_only=False)
        is_zero = stamps == 0
        if not is_zero.any():
            return stamps
        if self.zero_timestamp_ms is None:
            first = int(np.flatnonzero(is_zero)[0])
            source_id, partition, offset = (
                events[name][first].as_py() for name in ("source_id", "source_partition", "source_offset")
            )
            raise UsageError(
                f"{source_id} partition {partition}: the event at offset {offset} has the timestamp 0 (1970-01-01), for which "
                "Kafka's client library would write the present time. Say what to write instead: --zero-timestamp 1 (a "
                "millisecond later), or --zero-timestamp -1 (none)."
            )
        return np.where(is_zero, self.zero_timestamp_ms, stamps)


def hashed_partitions(
    keys: pa.BinaryArray, source_partitions: npt.NDArray[np.int32], count: int
) -> npt.NDArray[np.int32]:
    """Partition of each event in a topic of `count` partitions."""
    hashes = (murmur2(keys) & _POSITIVE).astype(np.int64)
    is_null = keys.is_null().to_numpy(zero_copy_only=False)
    return (np.where(is_null, source_partitions, hashes) % count).astype(np.int32)


def murmur2(keys: pa.BinaryArray) -> npt.NDArray[np.uint32]:
    """The hash of each key, all keys of one length at a time; of a null one it's that of an empty one."""
    lengths = pc.binary_length(keys).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset : keys.offset + len(keys)]
    data = np.frombuffer(keys.buffers()[2] or b"", np.uint8)
    hashes = np.empty(len(keys), np.uint32)
    for length in np.unique(lengths).tolist():
        which = np.flatnonzero(lengths == length)
        hashes[which] = _of_one_length(data[offsets[which, None] + np.arange(length)])
    return hashes


def _of_one_length(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Hashes of keys with shape (keys, length)."""
    count, length = keys.shape
    whole = length - length % _WORD_BYTES
    words = np.ascontiguousarray(keys[:, :whole]).view("<u4")
    hashes = np.full(count, _SEED ^ np.uint32(length))
    for i in range(words.shape[1]):
        word = words[:, i] * _M
        word ^= word >> np.uint32(24)
        hashes = hashes * _M ^ word * _M
    for i in range(length - whole - 1, -1, -1):
        hashes ^= keys[:, whole + i].astype(np.uint32) << np.uint32(8 * i)
    if length > whole:
        hashes *= _M
    hashes ^= hashes >> np.uint32(13)
    hashes *= _M
    hashes ^= hashes >> np.uint32(15)
    return hashes
