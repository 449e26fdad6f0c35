"""Blocks of a topic as row groups of the envelope, in order of partition and offset, and the claims that go with them.

One commit takes all partitions, so that slow ones don't make small files. What doesn't live here: when a commit is made
(`ingest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from event_archive.appending import ROW_GROUP_BYTES, ROW_GROUP_ROWS
from event_archive.archive.columns import column, string_column
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.errors import SourceProblem
from event_archive.sources.kafka.plan import RETENTION
from event_archive.sources.kafka.positions import PartitionClaim, runs_of
from event_archive.sources.kafka.records import row_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from event_archive.sources.kafka.plan import Start
    from event_archive.sources.kafka.reading import Block

# Parquet's writer takes long for many small chunks; of few large ones, a copy would only take memory.
_FEW_CHUNKS = 100


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A block's rows, sorted by partition, and where each partition's lie."""

    rows: pa.RecordBatch
    offsets: npt.NDArray[np.int64]
    slices: dict[int, tuple[int, int]]
    bytes_a_row: float


class BatchBuilder:
    """Collects blocks for the next commit."""

    def __init__(self, starts: dict[int, Start], topic_id: str) -> None:
        self._starts = starts
        self._topic_id = topic_id
        self._blocks: list[_Sorted] = []
        self._anchors = {p: (s.anchor_offset, s.anchor_digest) for p, s in starts.items()}
        self._claimed = {p: s.position for p, s in starts.items()}
        self._unclaimed = {p for p, s in starts.items() if s.is_new or s.gap_from is not None}
        self.positions = dict(self._claimed)
        """By partition, the offset up to which it was read."""
        self.pending_rows = 0
        self.pending_bytes = 0
        self._source_ids = list(dict.fromkeys(s.source_id for s in starts.values()))
        number = {source_id: i for i, source_id in enumerate(self._source_ids)}
        self._source_numbers = np.zeros(max(starts, default=0) + 1, np.int32)
        for partition, start in starts.items():
            self._source_numbers[partition] = number[start.source_id]

    @property
    def has_something(self) -> bool:
        """Whether a commit would say anything."""
        return bool(self._unclaimed) or self.positions != self._claimed

    def add(self, block: Block) -> None:
        """Takes in a block.

        Raises:
            SourceProblem: an offset came that was read before; nothing of the block is taken.
        """
        if len(block.offsets):
            ordered = self._checked(block)
            self._blocks.append(ordered)
            for partition, (_, end) in ordered.slices.items():
                self.positions[partition] = int(ordered.offsets[end - 1]) + 1
            self.pending_rows += len(block.offsets)
            self.pending_bytes += block.size_bytes
        for partition, end in block.ends.items():
            self.positions[partition] = max(self.positions[partition], end)

    def _checked(self, block: Block) -> _Sorted:
        partitions, offsets = block.partitions, block.offsets
        starts = np.flatnonzero(np.diff(partitions, prepend=-1))
        ends = np.append(starts[1:], len(partitions))
        slices = {
            int(partitions[start]): (int(start), int(end))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        }
        if len(slices) != len(starts):
            raise ValueError("the records of a block must stand together by partition")
        steps = np.diff(offsets, prepend=0)
        steps[starts] = offsets[starts] - np.array([self.positions[p] for p in slices]) + 1
        if (steps <= 0).any():
            wrong = int(np.flatnonzero(steps <= 0)[0])
            raise SourceProblem(
                f"partition {partitions[wrong]}: offset {offsets[wrong]} was delivered after one that is not before it. "
                "Nothing of it was archived; run the command again."
            )
        rows = pa.RecordBatch.from_arrays(
            [
                pa.DictionaryArray.from_arrays(
                    column(pa.int32(), self._source_numbers[block.partitions]),
                    string_column(self._source_ids),
                ),
                column(pa.int32(), block.partitions),
                column(pa.int64(), block.offsets),
                *(block.columns[name] for name in SOURCE_SCHEMA.names[3:]),
            ],
            schema=SOURCE_SCHEMA,
        )
        return _Sorted(rows, offsets, slices, block.size_bytes / len(offsets))

    def take_row_groups(self) -> Iterator[tuple[pa.Table, int]]:
        """Row groups over all that was collected, in order of partition and offset; it is not held any longer then.

        Yields:
            Rows with `SOURCE_SCHEMA`, and how many bytes of values they hold.
        """
        partitions = sorted({p for block in self._blocks for p in block.slices})
        blocks: list[_Sorted | None] = [*self._blocks]
        self._blocks = []
        group: list[pa.RecordBatch] = []
        rows, size = 0, 0.0
        for partition in partitions:
            for number, block in enumerate(blocks):
                if block is None or partition not in block.slices:
                    continue
                start, end = block.slices.pop(partition)
                group.append(block.rows.slice(start, end - start))
                if not block.slices:
                    blocks[number] = None  # its memory is free once its last rows are written
                rows += end - start
                size += (end - start) * block.bytes_a_row
                if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                    yield _row_group(group)
                    group, rows, size = [], 0, 0.0
        if group:
            yield _row_group(group)
        self.pending_rows = self.pending_bytes = 0

    def take_claims(self) -> list[PartitionClaim]:
        """Claims on all partitions of which there is something new to say; call it before `take_row_groups`."""
        claims = []
        for partition, position in sorted(self.positions.items()):
            start = self._starts[partition]
            is_unclaimed = partition in self._unclaimed
            if position == self._claimed[partition] and not is_unclaimed:
                continue
            blocks = [block for block in self._blocks if partition in block.slices]
            if blocks:
                row = blocks[-1].slices[partition][1] - 1
                self._anchors[partition] = (int(blocks[-1].offsets[row]), row_digest(blocks[-1].rows, row))
            anchor_offset, anchor_digest = self._anchors[partition]
            offsets = [block.offsets[slice(*block.slices[partition])] for block in blocks]
            gap_from = start.gap_from if is_unclaimed else None
            claims.append(
                PartitionClaim(
                    source_id=start.source_id,
                    topic_id=self._topic_id,
                    partition=partition,
                    first_offset=self._claimed[partition],
                    next_offset=position,
                    runs=runs_of(np.concatenate(offsets) if offsets else np.empty(0, np.int64)),
                    gap_from=gap_from,
                    gap_reason="" if gap_from is None else RETENTION,
                    anchor_offset=anchor_offset,
                    anchor_digest=anchor_digest,
                )
            )
        return claims

    def committed(self) -> None:
        """What was taken is committed: the next claims go on from there."""
        self._claimed = dict(self.positions)
        self._unclaimed = set()


def _row_group(batches: list[pa.RecordBatch]) -> tuple[pa.Table, int]:
    """The batches as one table; they are taken out of the list."""
    table = pa.Table.from_batches(batches)
    if len(batches) > _FEW_CHUNKS:
        table = table.combine_chunks()
    batches.clear()
    return table, pc.sum(pc.binary_length(table["value"])).as_py() or 0
