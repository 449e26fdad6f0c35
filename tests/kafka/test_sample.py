"""Places drawn at random are read again from the broker: what differs is found, and what can't be compared is counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import Producer

from event_archive.accept import accept_source
from event_archive.errors import SourceProblem, SourceUnavailable
from event_archive.sources.kafka import sample as sample_module
from event_archive.sources.kafka.batches import BatchBuilder
from event_archive.sources.kafka.sample import Sample, compare_sample
from tests.kafka.topics import QUICK, Event, configure, consumed, delete_until, numbered, produce, recreate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.kafka.broker import Kafka
    from event_archive.source_config import KafkaSource
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic

SEED = "one"


def sample(project: Project, *, seed: str = SEED, **options: Any) -> Sample:
    """Compares the project's stream."""
    config = project.config()
    source: KafkaSource = config.stream("events").source  # type: ignore[assignment]
    return compare_sample("events", source, project.store, seed=seed, **options)


ODD = [
    Event(b"v", b"k", [("a", b"1"), ("b", None), ("a", b""), ("a", b"1"), ("", b"\x00\xff")]),
    Event(None, b"tombstone"),
    Event(b"", b""),
    Event(None, None),
    Event(b"\x00\xff\n", None, [("gr\u00fc\u00df", b"\xf0")]),
    Event(b"t", timestamp_ms=-1),
    Event(b"t", timestamp_ms=1),
]


def test_odd_records_are_the_same_in_the_archive(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Null is not empty, headers keep order, duplicates and nulls, and any timestamp counts."""
    topic = create_topic(2, config={"message.timestamp.before.max.ms": 2**63 - 1, "retention.ms": -1})
    produce(kafka.bootstrap, topic, ODD)
    produce(kafka.bootstrap, topic, numbered(0, 50, partition=1))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    found = sample(project)
    assert found == Sample(places=57, events=found.events, gone=0, still_there=57, differences=())
    assert found.events > 57


def _without_headers(rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index("headers")
    return rows.set_column(
        place, rows.schema.field(place), pa.nulls(len(rows), rows.schema.field(place).type)
    )


def _changed(name: str, change: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    def changed(rows: pa.Table) -> pa.Table:
        place = rows.schema.get_field_index(name)
        return rows.set_column(place, rows.schema.field(place), change(rows[name]))

    return changed


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        (_without_headers, "offset 0: the broker's event differs from the archived one in headers."),
        (_changed("key", lambda keys: pc.fill_null(keys, b"")), "offset 3: the broker's event differs from the archived one in key."),
        (_changed("value", lambda values: pc.fill_null(values, b"")), "offset 1: the broker's event differs from the archived one in value."),
        (_changed("timestamp_ms", lambda times: pc.add(times, 1)), "offset 6: the broker's event differs from the archived one in timestamp_ms."),
        (_changed("source_offset", lambda offsets: pc.add(offsets, 1)), "offset 0: the broker has an event there, and the archive has none."),
        (lambda rows: rows.filter(pc.not_equal(rows["source_offset"], 2)), "offset 2: the broker has an event there, and the archive has none."),
        (lambda rows: pa.concat_tables([rows, rows]), "offset 5: the event is in the archive 2 times."),
    ],
    ids=["headers lost", "null key empty", "tombstone empty", "time shifted", "offsets shifted", "event lost", "events doubled"],
)  # fmt: skip
def test_an_ingest_that_errs_is_found_out(
    project: Project,
    kafka: Kafka,
    create_topic: CreateTopic,
    monkeypatch: pytest.MonkeyPatch,
    *,
    bug: Callable[[pa.Table], pa.Table],
    words: str,
) -> None:
    """A bug on the way from the records to the rows can't hide itself: the comparison doesn't go that way."""
    topic = create_topic(config={"message.timestamp.before.max.ms": 2**63 - 1, "retention.ms": -1})
    produce(kafka.bootstrap, topic, ODD)
    configure(project, kafka.bootstrap, topic)
    take_row_groups = BatchBuilder.take_row_groups

    def wrong(builder: BatchBuilder) -> Iterator[tuple[pa.Table, int]]:
        for rows, size in take_row_groups(builder):
            yield bug(rows), size

    monkeypatch.setattr(BatchBuilder, "take_row_groups", wrong)
    project.ingest()
    assert f"topic {topic} partition 0 {words}" in sample(project).differences


def test_compaction_and_retention_are_no_differences(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """What is gone from the broker by now is counted, what is left is compared."""
    eager = {"min.cleanable.dirty.ratio": 0.01, "segment.ms": 100, "max.compaction.lag.ms": 100}
    topic = create_topic(2, config={"cleanup.policy": "compact,delete", **eager})
    produce(kafka.bootstrap, topic, [Event(b"%d" % n, b"%d" % (n % 5)) for n in range(200)])
    produce(kafka.bootstrap, topic, [Event(b"%d" % n, b"%d" % n, partition=1) for n in range(30)])
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    for round_ in range(200):
        produce(kafka.bootstrap, topic, [Event(b"%d" % round_, b"6")])  # lets a segment end
        if len(consumed(kafka.bootstrap, topic)[0]) < 150 + round_:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the cleaner never ran")
    delete_until(kafka.admin(), topic, 25, partition=1)

    found = sample(project)
    assert found.differences == ()
    assert found.gone > 0
    assert found.still_there <= 200 + 5
    assert found.events > 0


def test_aborted_events_are_not_missed(project: Project, kafka: Kafka, create_topic: CreateTopic) -> None:
    """Whether the archive has them or not: they were never given to those who read what is committed."""
    for isolation in ("read_committed", "read_uncommitted"):
        topic = create_topic()
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, **QUICK})
        producer.init_transactions(30)
        for round_ in range(6):
            producer.begin_transaction()
            for number in range(5):
                producer.produce(topic, b"%d %d" % (round_, number))
            if round_ % 2:
                producer.commit_transaction(30)
            else:
                producer.flush(30)
                producer.abort_transaction(30)
        configure(project, kafka.bootstrap, topic, source=f"isolation: {isolation}")
        assert project.ingest().events == (15 if isolation == "read_committed" else 30)
        found = sample(project)
        assert found.differences == ()
        assert found.still_there == 36
        assert (found.gone > 0) == (isolation == "read_uncommitted")


def test_large_events_are_compared_one_at_a_place(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """A look at a topic doesn't read gigabytes, and holds none of them in memory."""
    topic = create_topic(config={"max.message.bytes": 32 * 2**20})
    produce(kafka.bootstrap, topic, [Event(b"x" * (8 * 2**20))] * 6, message_max_bytes=32 * 2**20)
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    assert sample(project) == Sample(places=6, events=6, gone=0, still_there=6, differences=())


def test_events_that_are_not_archived_yet_are_not_missed(project: Project, kafka: Kafka, topic: str) -> None:
    """A place ends where the archive ends."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 5))
    project.ingest()
    produce(kafka.bootstrap, topic, numbered(5, 50))
    found = sample(project)
    assert (found.still_there, found.differences) == (5, ())
    assert found.events == 5 + 4 + 3 + 2 + 1


def test_events_before_the_first_archived_one_are_not_missed(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """The stream was told to begin later than the topic does, and has a gap besides."""
    configure(project, kafka.bootstrap, topic, source="start_at: {0: 20}")
    produce(kafka.bootstrap, topic, numbered(0, 30))
    project.ingest()
    found = sample(project)
    assert (found.still_there, found.differences) == (10, ())
    produce(kafka.bootstrap, topic, numbered(30, 10))
    delete_until(kafka.admin(), topic, 35)
    project.ingest()
    found = sample(project)
    assert (found.still_there, found.events, found.differences) == (5, 15, ())


def test_a_seed_draws_the_same_places_again(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """And another seed draws others; so a difference can be looked at again."""
    topic = create_topic(3)
    configure(project, kafka.bootstrap, topic)
    for commit in range(4):
        for partition in range(3):
            produce(kafka.bootstrap, topic, numbered(commit * 100, 100, partition=partition))
        project.ingest()
    # The last place of a partition may end early, and so the number of events depends on the places drawn.
    by_seed = {seed: sample(project, seed=seed, places=40, events_a_place=200).events for seed in "abcdef"}
    assert {seed: sample(project, seed=seed, places=40, events_a_place=200).events for seed in "ab"} == {
        seed: by_seed[seed] for seed in "ab"
    }
    assert len(set(by_seed.values())) > 1
    few = sample(project, places=7, events_a_place=1)
    assert (few.places, few.events, few.still_there) == (7, 7, 1200)


def test_brokers_that_do_not_answer_are_a_clear_error(project: Project) -> None:
    """After the configured patience."""
    configure(project, "127.0.0.1:9", "events", source="timeout_seconds: 1")
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:9"):
        sample(project)


def test_only_the_newest_generation_is_compared(project: Project, kafka: Kafka, topic: str) -> None:
    """What the archive has of a topic before this one was never at these offsets."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 20))
    project.ingest()
    recreate(kafka.admin(), topic)
    produce(kafka.bootstrap, topic, [Event(b"new")] * 8)
    with pytest.raises(SourceProblem, match="made anew"):
        sample(project)
    accept_source(project.config(), "events")
    assert sample(project) == Sample(places=8, events=8 * 9 // 2, gone=0, still_there=8, differences=())


def test_a_topic_made_anew_while_it_is_compared_is_not_taken_for_the_old_one(
    project: Project, kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events would look like a damaged archive."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 20))
    project.ingest()
    read = sample_module._read

    def too_late(*arguments: Any) -> None:
        recreate(kafka.admin(), topic)
        produce(kafka.bootstrap, topic, [Event(b"new")] * 30)
        read(*arguments)

    monkeypatch.setattr(sample_module, "_read", too_late)
    with pytest.raises(SourceProblem, match="made anew"):
        sample(project)


def test_events_deleted_while_they_are_compared_are_no_differences(
    project: Project, kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention doesn't wait for anybody."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 20))
    project.ingest()
    read = sample_module._read

    def too_late(*arguments: Any) -> None:
        delete_until(kafka.admin(), topic, 15)
        read(*arguments)

    monkeypatch.setattr(sample_module, "_read", too_late)
    found = sample(project)
    assert (found.places, found.events, found.differences) == (20, 5 + 4 + 3 + 2 + 1, ())
