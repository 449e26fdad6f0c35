"""Is everything up to a time in? The archive's positions held against what the brokers say of times."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from event_archive.coverage import complete_until, stream_coverage
from event_archive.errors import SourceUnavailable, UsageError
from tests.kafka.topics import QUICK, Event, configure, numbered, produce, send

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
FOREVER = {"retention.ms": -1}


def at(minutes: int, partition: int = 0) -> Event:
    """An event so many minutes after noon."""
    return Event(
        b"%d" % minutes, partition=partition, timestamp_ms=int(NOON.timestamp() * 1000) + minutes * 60_000
    )


def test_what_is_in_up_to_a_time_is_told_per_partition(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """As long as one partition lacks an event from before, the answer is no."""
    topic = create_topic(2, config=FOREVER)
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, [at(n, p) for p in range(2) for n in range(10)])
    project.ingest()

    def answer(minutes: int) -> tuple[bool, str]:
        config = project.config()
        told = complete_until(config, stream_coverage(config, "events"), NOON + dt.timedelta(minutes=minutes))
        return told.is_complete, str(told)

    assert answer(5)[0]
    assert answer(100)[0]
    produce(kafka.bootstrap, topic, [at(20, 1), at(21, 1), at(30, 1)])
    assert answer(15)[0], "everything new is later"
    is_complete, sentence = answer(25)
    assert not is_complete
    assert "offsets 10 to 11 of partition 1 are not archived yet" in sentence
    project.ingest()
    assert answer(25)[0]

    done = project.run("coverage", "events", "--until", "2026-01-01T12:25:00Z", "--json")
    assert (done.returncode, json.loads(done.stdout)["completeness"]["is_complete"]) == (0, True)


def test_a_gap_is_never_complete(project: Project, kafka: Kafka, create_topic: CreateTopic) -> None:
    """Whatever was archived after it; and up to a time before it the answer is still yes."""
    from confluent_kafka import TopicPartition

    topic = create_topic(config=FOREVER)
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, [at(n) for n in range(5)])
    project.ingest()
    produce(kafka.bootstrap, topic, [at(n) for n in range(10, 20)])
    admin = kafka.admin()
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 8)]).values()
    deleted.result()
    project.ingest()
    done = project.run("coverage", "events", "--until", "2026-01-01T13:00:00Z")
    assert done.returncode == 1
    assert "offsets 5 to 7 of partition 0 were gone before they could be read" in done.stdout
    assert "5 … 7" in done.stdout


def test_an_open_transaction_keeps_the_answer_at_no(project: Project, kafka: Kafka, topic: str) -> None:
    """And the reason is named."""
    configure(project, kafka.bootstrap, topic)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, **QUICK})
    producer.init_transactions(30)
    producer.begin_transaction()
    send(producer, topic, numbered(0, 1))
    producer.flush(30)
    project.ingest()
    now = dt.datetime.now(dt.UTC).isoformat()
    assert "wait for an open transaction" in project.run("coverage", "events", "--until", now).stdout
    producer.abort_transaction(30)
    project.ingest()
    assert project.run("coverage", "events", "--until", now).returncode == 0


def test_what_can_not_be_known_is_not_claimed(project: Project, kafka: Kafka, topic: str) -> None:
    """The future, a time without a zone, brokers that don't answer, a source without times."""
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    config = project.config()
    coverage = stream_coverage(config, "events")
    with pytest.raises(UsageError, match="future"):
        complete_until(config, coverage, dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    assert project.run("coverage", "events", "--until", "2026-01-01").returncode == 2
    configure(project, "127.0.0.1:9", topic)
    with pytest.raises(SourceUnavailable):
        complete_until(project.config(), coverage, NOON)
    project.configure()
    with pytest.raises(UsageError, match="landing folder"):
        complete_until(project.config(), coverage, NOON)


def test_files_are_covered_from_their_first_line_to_their_last(project: Project) -> None:
    """Each is one stretch, without holes or gaps."""
    project.write("a.jsonl", b"1\n\n2\n3\n")
    project.ingest()
    project.write("a.jsonl", b"1\n\n2\n3\n4\n")
    project.ingest()
    (partition,) = stream_coverage(project.config(), "events").partitions
    assert [(i.first, i.next) for i in partition.intervals] == [(0, 4)]
    assert (partition.events, partition.holes, partition.gaps) == (4, (), ())
