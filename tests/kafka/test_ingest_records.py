"""What is recorded of a topic: each record exactly, each once, whatever the topic is like."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition

from event_archive.coverage import stream_coverage
from event_archive.errors import SourceProblem
from event_archive.ingest import ingest_stream
from event_archive.status import stream_status
from event_archive.verify import verify_stream
from tests.kafka.topics import (
    QUICK,
    Event,
    archived,
    assert_same,
    configure,
    consumed,
    delete_until,
    numbered,
    produce,
    send,
)

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic

NO_LIMIT = {
    "message.timestamp.after.max.ms": 2**63 - 1,
    "message.timestamp.before.max.ms": 2**63 - 1,
    "retention.ms": -1,
}


def test_keys_values_headers_and_timestamps_are_archived_exactly(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Null is not empty, headers keep order, duplicates and nulls, and a timestamp is kept however absurd."""
    topic = create_topic(config=NO_LIMIT)
    events = [
        Event(b"v", b"k", [("a", b"1"), ("b", None), ("a", b""), ("a", b"1"), ("", b"\x00\xff")]),
        Event(None, b"tombstone"),
        Event(b"", b""),
        Event(None, None),
        Event(b"\x00\xff\n", None, [("gr\u00fc\u00df", b"\xf0")]),
        *(
            Event(b"t", timestamp_ms=ms)
            for ms in (-1, -2, 1, 2**62, -(2**62), 253_402_300_799_999, 253_402_300_800_000)
        ),
    ]
    produce(kafka.bootstrap, topic, events)
    configure(project, kafka.bootstrap, topic)

    assert project.ingest().events == len(events)

    (records,) = archived(project).values()
    assert [(r[1], r[2], r[3]) for r in records] == [(e.key, e.value, e.headers) for e in events]
    assert [r[4] for r in records if r[2] == b"t"] == [(1, e.timestamp_ms) for e in events if e.value == b"t"]
    assert_same(project, kafka.bootstrap, topic)
    times = project.run(
        "sql",
        "select timestamp_ms, event_time::varchar as t from archive.events where value = 't'",
        "--format",
        "json",
    )
    typed = {row["timestamp_ms"]: row["t"] for row in json.loads(times.stdout)}
    assert typed[-1] is None
    assert typed[-2] == "1969-12-31 23:59:59.998+00"
    assert typed[2**62] is None
    assert typed[253_402_300_799_999] == "9999-12-31 23:59:59.999+00"
    assert typed[253_402_300_800_000] is None


def test_the_time_of_appending_is_told_from_the_time_of_creation(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """By timestamp_type."""
    topic = create_topic(config={"message.timestamp.type": "LogAppendTime"})
    produce(kafka.bootstrap, topic, [Event(b"x", timestamp_ms=5)])
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    ((record,),) = archived(project).values()
    assert record[4][0] == 2
    assert record[4][1] > 1_600_000_000_000
    assert_same(project, kafka.bootstrap, topic)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(
    compression: str, project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """In batches of several records."""
    topic = create_topic()
    produce(kafka.bootstrap, topic, numbered(0, 300, size=200), compression_type=compression)
    configure(project, kafka.bootstrap, topic)
    assert project.ingest().events == 300
    assert_same(project, kafka.bootstrap, topic)


def test_records_of_twenty_megabytes_are_archived(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Several of them, with small ones between."""
    topic = create_topic(config={"max.message.bytes": 32 * 2**20})
    events = [Event(bytes([n]) * (20 * 2**20 if n % 2 else 10), b"%d" % n) for n in range(6)]
    produce(kafka.bootstrap, topic, events, message_max_bytes=32 * 2**20)
    configure(project, kafka.bootstrap, topic)
    assert project.ingest().events == 6
    assert_same(project, kafka.bootstrap, topic)


def test_an_ingest_goes_on_where_the_archive_ends(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """And with nothing new it commits nothing."""
    topic = create_topic(3)
    configure(project, kafka.bootstrap, topic)
    for round_ in range(3):
        for partition in range(3):
            produce(kafka.bootstrap, topic, numbered(round_ * 50, 50, partition=partition))
        assert (project.ingest().events, project.ingest().commits) == (150, 0)
    assert_same(project, kafka.bootstrap, topic)
    assert stream_status(project.config(), "events").lag.events == 0


def test_an_empty_topic_is_no_problem(project: Project, kafka: Kafka, topic: str) -> None:
    """Its positions are archived, so that whatever comes later is known to be everything."""
    configure(project, kafka.bootstrap, topic)
    first = project.ingest()
    assert (first.events, first.problems) == (0, ())
    assert project.ingest().commits == 0
    assert list(stream_status(project.config(), "events").positions.values()) == [0]


def test_one_commit_takes_all_partitions(project: Project, kafka: Kafka, create_topic: CreateTopic) -> None:
    """Slow ones make no files of their own."""
    topic = create_topic(20)
    configure(project, kafka.bootstrap, topic)
    for partition in range(20):
        produce(kafka.bootstrap, topic, numbered(0, 1 + 40 * (partition == 3), partition=partition))
    result = project.ingest()
    assert (result.events, result.commits) == (60, 1)
    assert stream_status(project.config(), "events").files == 1
    assert_same(project, kafka.bootstrap, topic)


def test_partitions_that_are_added_are_read_from_their_first_event(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Also where the stream began at the newest one."""
    from confluent_kafka.admin import NewPartitions

    topic = create_topic(1)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    configure(project, kafka.bootstrap, topic, source="start_at: latest")
    assert project.ingest().events == 0
    admin = kafka.admin()
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    for partition in range(3):
        produce(kafka.bootstrap, topic, numbered(10, 5, partition=partition))
    assert project.ingest().events == 15
    assert {p: len(records) for p, records in archived(project).items()} == {0: 5, 1: 5, 2: 5}


# Transactions


def transaction(kafka: Kafka, topic: str, events: list[Event], *, commit: bool) -> None:
    """Writes events in a transaction and ends it."""
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topic}-{commit}", **QUICK}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    send(producer, topic, events)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def test_aborted_events_and_markers_are_known_holes(project: Project, kafka: Kafka, topic: str) -> None:
    """Committed events are archived, and the position passes the marker at the very end too."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 5))
    transaction(kafka, topic, numbered(5, 7), commit=False)
    transaction(kafka, topic, numbered(12, 4), commit=True)
    assert project.ingest().events == 9
    assert_same(project, kafka.bootstrap, topic)

    (partition,) = stream_coverage(project.config(), "events").partitions
    # 5 events, 7 aborted and a marker, 4 committed and a marker
    assert [(i.first, i.next) for i in partition.intervals] == [(0, 18)]
    assert [(hole.first, hole.next) for hole in partition.holes] == [(5, 13), (17, 18)]
    assert (partition.events, partition.hole_offsets, partition.gaps) == (9, 9, ())
    assert project.ingest().commits == 0, "the marker at the end is no news"


def test_with_read_uncommitted_aborted_events_are_archived_too(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """And of holes only the markers are left."""
    configure(project, kafka.bootstrap, topic, source="isolation: read_uncommitted")
    transaction(kafka, topic, numbered(0, 3), commit=False)
    transaction(kafka, topic, numbered(3, 3), commit=True)
    assert project.ingest().events == 6
    assert_same(project, kafka.bootstrap, topic, isolation="read_uncommitted")
    (partition,) = stream_coverage(project.config(), "events").partitions
    assert [(hole.first, hole.next) for hole in partition.holes] == [(3, 4), (7, 8)]


def test_an_open_transaction_holds_events_back_and_status_says_so(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """What comes behind it waits, and comes in once it ends."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 2))
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topic}-open", **QUICK})
    producer.init_transactions(30)
    producer.begin_transaction()
    send(producer, topic, numbered(2, 1))
    producer.flush(30)
    produce(kafka.bootstrap, topic, numbered(3, 4))

    assert project.ingest().events == 2
    status = stream_status(project.config(), "events")
    assert (status.lag.events, status.lag.held_back) == (5, 5)
    assert "wait for a transaction that is open" in status.notes[0]

    producer.commit_transaction(30)
    assert project.ingest().events == 5
    assert stream_status(project.config(), "events").lag.held_back == 0
    assert_same(project, kafka.bootstrap, topic)


def test_compaction_leaves_known_holes(project: Project, kafka: Kafka, create_topic: CreateTopic) -> None:
    """Whatever the cleaner has left is archived, and the rest of the offsets is no gap."""
    topic = create_topic(
        config={
            "cleanup.policy": "compact",
            "segment.ms": 100,
            "min.cleanable.dirty.ratio": 0.01,
            "max.compaction.lag.ms": 100,
            "delete.retention.ms": 100,
        }
    )
    configure(project, kafka.bootstrap, topic)
    seen = 0
    for round_ in range(200):
        produce(kafka.bootstrap, topic, [Event(b"%d" % round_, b"%d" % key) for key in range(5)])
        seen = sum(map(len, consumed(kafka.bootstrap, topic).values()))
        if seen < round_ * 5 - 50:
            break
    else:
        pytest.fail("the cleaner never ran")
    project.ingest()
    (partition,) = stream_coverage(project.config(), "events").partitions
    assert partition.holes
    assert not partition.gaps
    assert len(partition.intervals) == 1
    found = {record[0]: record for record in archived(project)[0]}
    for record in consumed(kafka.bootstrap, topic)[0]:  # which may have been compacted further meanwhile
        assert found[record[0]] == record


# Positions


def test_the_consumer_group_is_written_and_never_read(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Deleting or moving its offsets changes nothing."""
    from confluent_kafka import ConsumerGroupTopicPartitions

    topic = create_topic(2)
    configure(project, kafka.bootstrap, topic, source=f"group: g-{topic}")
    for partition in range(2):
        produce(kafka.bootstrap, topic, numbered(0, 10, partition=partition))
    project.ingest()
    admin = kafka.admin()
    group = ConsumerGroupTopicPartitions(f"g-{topic}")
    listed = admin.list_consumer_group_offsets([group])[f"g-{topic}"].result().topic_partitions
    assert {tp.partition: tp.offset for tp in listed} == {0: 10, 1: 10}

    produce(kafka.bootstrap, topic, numbered(10, 3))
    back = ConsumerGroupTopicPartitions(
        f"g-{topic}", [TopicPartition(topic, 0, 2), TopicPartition(topic, 1, 99)]
    )
    admin.alter_consumer_group_offsets([back])[f"g-{topic}"].result()
    assert project.ingest().events == 3
    admin.delete_consumer_groups([f"g-{topic}"])[f"g-{topic}"].result()
    produce(kafka.bootstrap, topic, numbered(13, 4))
    assert project.ingest().events == 4
    assert_same(project, kafka.bootstrap, topic)


@pytest.mark.parametrize(
    ("start_at", "expected"),
    [
        ("earliest", {0: 10, 1: 10}),
        ("latest", {}),
        ("{0: 7}", {0: 3, 1: 10}),
        ("{0: 0, 1: 10}", {0: 10}),
        ("1970-01-01T00:00:05Z", {0: 5, 1: 5}),
        ("2999-01-01T00:00:00Z", {}),
    ],
)
def test_the_first_ingest_starts_where_the_configuration_says(
    start_at: str, expected: dict[int, int], project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """And only the first: what comes later is archived whatever it says."""
    topic = create_topic(2, config=NO_LIMIT)
    for partition in range(2):
        events = [Event(b"%d" % n, partition=partition, timestamp_ms=(n or 1) * 1000) for n in range(10)]
        produce(kafka.bootstrap, topic, events)
    configure(project, kafka.bootstrap, topic, source=f"start_at: {start_at}")
    project.ingest()
    assert {p: len(records) for p, records in archived(project).items()} == expected
    for partition in range(2):
        produce(kafka.bootstrap, topic, [Event(b"later", partition=partition, timestamp_ms=1)])
    assert project.ingest().events == 2
    assert not stream_coverage(project.config(), "events").has_gaps


def test_a_start_before_what_the_broker_still_has_is_a_gap(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """What was asked for and is gone is missed, also at the very beginning; beyond the end there is nothing to begin at."""
    produce(kafka.bootstrap, topic, numbered(0, 20))
    admin = kafka.admin()
    delete_until(admin, topic, 15)
    configure(project, kafka.bootstrap, topic, source="start_at: {0: 500}")
    with pytest.raises(SourceProblem, match="ends at 20"):
        project.ingest()
    configure(project, kafka.bootstrap, topic, source="start_at: {0: 5}")
    assert project.ingest().events == 5
    (partition,) = stream_coverage(project.config(), "events").partitions
    assert [(gap.from_offset, gap.to_offset) for gap in partition.gaps] == [(5, 15)]
    assert verify_stream(project.config(), "events").damages == ()


def test_a_position_behind_an_open_transaction_keeps_nobody_waiting(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """As after a switch from uncommitted to committed events, while other partitions have ever more."""
    topic = create_topic(2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, **QUICK})
    producer.init_transactions(30)
    producer.begin_transaction()
    send(producer, topic, numbered(0, 5))
    producer.flush(30)
    configure(project, kafka.bootstrap, topic, source="isolation: read_uncommitted")
    assert project.ingest().events == 5
    produce(kafka.bootstrap, topic, numbered(0, 7, partition=1))
    configure(project, kafka.bootstrap, topic, source="timeout_seconds: 10")
    started = time.monotonic()
    assert project.ingest().events == 7
    assert time.monotonic() - started < 9, "it waited for what can't come"
    producer.commit_transaction(30)
    produce(kafka.bootstrap, topic, numbered(5, 2))
    assert project.ingest().events == 2
    assert_same(project, kafka.bootstrap, topic)


def test_an_ingest_ends_although_events_keep_coming(project: Project, kafka: Kafka, topic: str) -> None:
    """It takes what is there at its start."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 1000))
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **QUICK})
    calls = 0

    def more(_progress: object) -> None:
        nonlocal calls
        calls += 1
        send(producer, topic, numbered(1000 + calls, 1))
        producer.flush(10)

    result = ingest_stream(project.config(), "events", on_progress=more)
    assert 1000 <= result.events < 1000 + calls + 1
    project.ingest()
    assert_same(project, kafka.bootstrap, topic)
