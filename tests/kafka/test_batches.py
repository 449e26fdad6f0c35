"""Blocks of a topic become row groups in order of partition and offset; no broker needed."""

from __future__ import annotations

import gc
import random
import threading

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Message

from event_archive.archive.columns import column
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.cycle_collector import without_cycle_collector
from event_archive.errors import SourceProblem
from event_archive.source_config import KafkaSource
from event_archive.sources.kafka import batches
from event_archive.sources.kafka.batches import BatchBuilder
from event_archive.sources.kafka.plan import Start
from event_archive.sources.kafka.reading import Block, Reader
from event_archive.sources.kafka.records import record_columns

PARTITIONS = 5


def a_builder() -> BatchBuilder:
    """A builder for a topic that was never archived."""
    starts = {p: Start(p, "kafka://c/t", 0, 10**6, is_new=True) for p in range(PARTITIONS)}
    return BatchBuilder(starts, "topic-id")


def a_block(*places: tuple[int, int]) -> Block:
    """A block with an event at each place: partition and offset, which are its value too."""
    values = pa.array([f"{partition}:{offset}".encode() for partition, offset in places], pa.binary())
    given = {"value": values}
    columns = {
        field.name: given.get(field.name, pa.nulls(len(places), field.type)) for field in SOURCE_SCHEMA
    }
    return Block(
        np.array([partition for partition, _ in places], np.int32),
        np.array([offset for _, offset in places], np.int64),
        columns,
        size_bytes=100 * len(places),
    )


def random_blocks(seed: int) -> list[Block]:
    """Blocks as a consumer gives them: some events of some partitions, those of each in order, with holes."""
    generator = random.Random(seed)
    nexts = [0] * PARTITIONS
    blocks = []
    for _ in range(generator.randrange(1, 30)):
        places = []
        for partition in sorted(generator.sample(range(PARTITIONS), generator.randrange(1, PARTITIONS + 1))):
            for _ in range(generator.randrange(1, 20)):
                nexts[partition] += generator.choice([1, 1, 1, 4])
                places.append((partition, nexts[partition]))
        blocks.append(a_block(*places))
    return blocks


@pytest.mark.parametrize("few_chunks", [0, 100], ids=["copied", "as they are"])
@pytest.mark.parametrize("seed", range(10))
def test_row_groups_hold_every_event_in_order_of_partition_and_offset(
    monkeypatch: pytest.MonkeyPatch, seed: int, few_chunks: int
) -> None:
    """Whatever the blocks, over all row groups together, with the sum of the bytes of their values."""
    monkeypatch.setattr(batches, "ROW_GROUP_ROWS", 64)
    monkeypatch.setattr(batches, "_FEW_CHUNKS", few_chunks)
    builder = a_builder()
    given: list[tuple[int, int]] = []
    for block in random_blocks(seed):
        builder.add(block)
        given += zip(block.partitions.tolist(), block.offsets.tolist(), strict=True)
    claims = builder.take_claims()
    groups = list(builder.take_row_groups())
    rows = pa.concat_tables([group for group, _ in groups])
    found = list(zip(rows["source_partition"].to_pylist(), rows["source_offset"].to_pylist(), strict=True))
    assert found == sorted(given)
    assert rows["value"].to_pylist() == [f"{partition}:{offset}".encode() for partition, offset in found]
    assert sum(size for _, size in groups) == sum(map(len, rows["value"].to_pylist()))
    assert all(group.num_rows >= 64 for group, _ in groups[:-1])
    claimed = [
        (claim.partition, offset)
        for claim in claims
        for first, count in claim.runs.tolist()
        for offset in range(first, first + count)
    ]
    assert claimed == found


def test_records_of_mixed_partitions_are_put_in_order_with_all_that_belongs_to_them() -> None:
    """A consumer gives partitions in turn, and may come back to one."""
    reader = Reader("s", KafkaSource(type="kafka", brokers="127.0.0.1:9", topic="t"), {})
    places = [(1, 7), (0, 3), (1, 8), (0, 4), (1, 9)]
    messages = [
        Message(
            topic="t", partition=p, offset=o, key=f"{p}".encode(), value=f"{o}".encode(), timestamp=(1, o)
        )
        for p, o in places
    ]
    try:
        block = reader._block(messages)
    finally:
        reader._consumer.close()
    builder = a_builder()
    builder.add(block)
    ((rows, _),) = builder.take_row_groups()
    names = ["source_partition", "source_offset", "key", "value", "timestamp_ms"]
    assert list(zip(*(rows[name].to_pylist() for name in names), strict=True)) == [
        (p, o, f"{p}".encode(), f"{o}".encode(), o) for p, o in sorted(places)
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [None, None],
        [[("a", b"1"), ("a", None), ("", b"")], None, [("b", b"\xff")]],
        [[("a", b"1")], [("größe", b"2"), ("b", None)], None],
    ],
    ids=["none at all", "duplicates and nulls", "names beyond ASCII"],
)
def test_headers_are_kept_as_they_are(headers: list[list[tuple[str, str | bytes | None]] | None]) -> None:
    """Names, values, order; the client gives no list where a record has no header."""
    messages = [
        Message(topic="t", partition=0, offset=0, value=b"", timestamp=(1, 0), headers=given)
        for given in headers
    ]
    columns, _ = record_columns(messages)
    found = [
        None if row is None else [(header["key"], header["value"]) for header in row]
        for row in columns["headers"].to_pylist()
    ]
    assert found == headers


@pytest.mark.parametrize("places", [[(0, 5), (0, 5)], [(0, 5), (0, 4)], [(0, 5), (1, 1), (1, 1)]])
def test_an_offset_that_does_not_ascend_stops_the_ingest(places: list[tuple[int, int]]) -> None:
    """Within a block, and from one block to the next."""
    with pytest.raises(SourceProblem, match="delivered after"):
        a_builder().add(a_block(*places))
    builder = a_builder()
    for place in places[:-1]:
        builder.add(a_block(place))
    with pytest.raises(SourceProblem, match="delivered after"):
        builder.add(a_block(places[-1]))


def test_a_block_in_which_a_partition_stands_twice_is_refused() -> None:
    """It would lose what stands first."""
    with pytest.raises(ValueError, match="stand together"):
        a_builder().add(a_block((0, 1), (1, 1), (0, 2)))


def test_events_are_let_go_while_the_rest_is_written() -> None:
    """A batch of large events isn't held whole until its last row group."""
    builder = a_builder()
    before = pa.total_allocated_bytes()
    for offset in range(10):
        block = a_block((0, offset))
        value = pa.allocate_buffer(10 * 2**20)
        offsets = column(pa.int32(), np.array([0, len(value)], np.int32)).buffers()[1]
        values = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, value])
        builder.add(
            Block(block.partitions, block.offsets, {**block.columns, "value": values}, size_bytes=len(value))
        )
        del block, value, values
    held = []
    for rows, _ in builder.take_row_groups():
        del rows
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) == 2
    assert held[0] < 5 * 10 * 2**20


def test_the_cycle_collector_is_back_when_the_last_user_has_left() -> None:
    """However the stays of several readers overlap, and however they end."""
    first_is_in, second_is_out = threading.Event(), threading.Event()

    def stay() -> None:
        with without_cycle_collector():
            first_is_in.set()
            second_is_out.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    first_is_in.wait(10)
    with pytest.raises(KeyError), without_cycle_collector():
        raise KeyError
    assert not gc.isenabled()
    second_is_out.set()
    thread.join()
    assert gc.isenabled()
