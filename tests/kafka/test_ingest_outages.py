"""What happens when brokers, a topic or single records can't be read: a clear error, or patience; what can be read is archived."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from event_archive.archive.history import log_versions
from event_archive.coverage import stream_coverage
from event_archive.errors import SourceProblem, SourceUnavailable
from event_archive.ingest import Follow, ingest_stream
from event_archive.sources.kafka import ingest as kafka_ingest
from event_archive.sources.kafka import topic as kafka_topic
from event_archive.status import stream_status
from tests.kafka.topics import (
    archived,
    assert_same,
    configure,
    numbered,
    produce,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic, PrivateKafka


@contextmanager
def following(project: Project) -> Iterator[list[str]]:
    """An ingest that goes on in a thread until the end of the block; what it warns of."""
    stop = threading.Event()
    told: list[str] = []
    follow = Follow(stop, max_latency_seconds=1)
    thread = threading.Thread(
        target=lambda: ingest_stream(project.config(), "events", follow=follow, on_warning=told.append)
    )
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


# Records that can't be read


def test_a_record_that_is_damaged_at_the_broker_is_no_hole(
    project: Project, private_kafka: PrivateKafka
) -> None:
    """Its partition stops there, loud, and goes on when the broker has it whole again; the others go on anyway."""
    kafka = private_kafka()
    kafka.create_topic("events", 2)
    for round_ in range(3):
        produce(kafka.bootstrap, "events", numbered(round_ * 10, 10))
    produce(kafka.bootstrap, "events", numbered(0, 5, partition=1))
    (node,) = kafka.nodes
    node.stop()
    (segment,) = node.data_folder.glob("events-0/*.log")
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"0/15.", b"0/1X."))
    node.start()
    kafka.wait_until_ready()
    configure(project, kafka.bootstrap, "events")
    for _ in range(2):
        (problem,) = project.ingest().problems
        assert "partition 0 can't be read from offset" in str(problem)
    assert {p: len(records) for p, records in archived(project).items()} == {0: 10, 1: 5}

    node.stop()
    segment.write_bytes(whole)
    node.start()
    kafka.wait_until_ready()
    assert project.ingest().events == 20
    assert stream_coverage(project.config(), "events").partitions[0].hole_offsets == 0
    assert_same(project, kafka.bootstrap, "events")


def test_following_takes_up_a_partition_again_once_it_can_be_read(
    project: Project, private_kafka: PrivateKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart: it looks again from time to time."""
    monkeypatch.setattr(kafka_ingest, "_HALTED_SECONDS", 1.0)
    monkeypatch.setattr(kafka_ingest, "_LOOK_SECONDS", 0.5)
    kafka = private_kafka()
    kafka.create_topic("events")
    for round_ in range(2):
        produce(kafka.bootstrap, "events", numbered(round_ * 10, 10))
    (node,) = kafka.nodes
    node.stop()
    (segment,) = node.data_folder.glob("events-0/*.log")
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"0/15.", b"0/1X."))
    node.start()
    kafka.wait_until_ready()
    configure(project, kafka.bootstrap, "events", source="timeout_seconds: 20")
    with following(project) as told:
        wait_for(lambda: bool(told))
        assert "can't be read from offset" in told[0]
        node.stop()
        segment.write_bytes(whole)
        node.start()
        kafka.wait_until_ready()
        wait_for(lambda: stream_status(project.config(), "events").events == 20)
    assert len(told) == 1, "once is enough"
    assert_same(project, kafka.bootstrap, "events")


# Brokers that aren't there


def test_a_topic_that_does_not_exist_is_a_clear_error(project: Project, kafka: Kafka) -> None:
    """With a remedy, and no table is made of it."""
    configure(project, kafka.bootstrap, "no-such-topic")
    with pytest.raises(SourceProblem, match="there is no such topic"):
        project.ingest()
    assert not project.table.exists()


def test_brokers_that_do_not_answer_are_a_clear_error(project: Project) -> None:
    """After the configured patience; status answers all the same."""
    configure(project, "127.0.0.1:9", "events", source="timeout_seconds: 1")
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:9"):
        project.ingest()
    status = stream_status(project.config(), "events")
    assert status.lag.events is None
    assert "The lag is not known" in status.notes[0]
    assert project.run("status").returncode == 0


@pytest.mark.parametrize("question", [0, 1, 2])
def test_an_offset_that_a_restarted_broker_does_not_know_yet_is_asked_for_again(
    question: int, project: Project, kafka: Kafka, create_topic: CreateTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Librdkafka gives -1001 for it, and no error; neither the oldest nor the newest event is there."""
    asked = 0

    class OfABrokerThatStarts(AdminClient):
        def list_offsets(self, *arguments: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            answers = super().list_offsets(*arguments, **options)
            if asked - 1 != question:
                return answers
            unknown: Future[Any] = Future()
            unknown.set_result(SimpleNamespace(offset=-1001))
            return dict.fromkeys(answers, unknown)

    topic = create_topic()
    produce(kafka.bootstrap, topic, numbered(0, 10))
    configure(project, kafka.bootstrap, topic)
    monkeypatch.setattr(kafka_topic, "AdminClient", OfABrokerThatStarts)
    assert project.ingest().events == 10
    assert asked > 3


def test_following_survives_a_broker_that_is_killed(project: Project, private_kafka: PrivateKafka) -> None:
    """And commits what came before and after."""
    kafka = private_kafka()
    kafka.create_topic("events", 3)
    (node,) = kafka.nodes
    configure(project, kafka.bootstrap, "events", source="timeout_seconds: 2")
    with following(project) as warnings:
        for round_ in range(2):
            for partition in range(3):
                produce(kafka.bootstrap, "events", numbered(round_ * 100, 100, partition=partition))
            wait_for(lambda: len(log_versions(project.store)) > 0)
            node.kill()
            time.sleep(3)
            node.start()
            kafka.wait_until_ready()
        wait_for(lambda: stream_status(project.config(), "events").events == 600)
    assert any("Trying again" in warning for warning in warnings), warnings
    assert_same(project, kafka.bootstrap, "events")


def test_a_consumer_group_that_others_use_does_not_matter(project: Project, kafka: Kafka, topic: str) -> None:
    """Positions can't be written into it then, which is worth a warning and no more."""
    produce(kafka.bootstrap, topic, numbered(0, 10))
    other = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    other.subscribe([topic])
    wait_for(lambda: other.poll(0.1))
    configure(project, kafka.bootstrap, topic, source=f"group: {topic}")
    result = project.ingest()
    other.close()
    assert result.events == 10
    assert "nothing depends on them" in result.warnings[0]
    assert_same(project, kafka.bootstrap, topic)
