"""What happens when the brokers have less, other or no longer the events that the archive goes on from."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from event_archive.accept import accept_source
from event_archive.coverage import stream_coverage
from event_archive.errors import SourceProblem, UsageError
from event_archive.ingest import Follow, ingest_stream
from event_archive.status import stream_status
from event_archive.verify import verify_stream
from tests.kafka.topics import (
    Event,
    archived,
    configure,
    consumed,
    delete_until,
    numbered,
    produce,
    recreate,
    wait_for,
)

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic, PrivateKafka


# Gaps


def test_events_that_retention_has_deleted_are_a_recorded_gap(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Loud in status and coverage, and the stream goes on."""
    topic = create_topic(2)
    configure(project, kafka.bootstrap, topic)
    for partition in range(2):
        produce(kafka.bootstrap, topic, numbered(0, 10, partition=partition))
    project.ingest()
    produce(kafka.bootstrap, topic, numbered(10, 10))
    admin = kafka.admin()
    delete_until(admin, topic, 14)

    before = stream_status(project.config(), "events")
    assert "the next ingest records them as a gap" in before.notes[0]
    assert before.gaps == ()

    result = project.ingest()
    assert result.events == 6
    (gap,) = stream_status(project.config(), "events").gaps
    assert (gap.partition, gap.from_offset, gap.to_offset) == (0, 10, 14)
    assert "deleted" in gap.reason
    coverage = {p.partition: p for p in stream_coverage(project.config(), "events").partitions}
    assert [(i.first, i.next) for i in coverage[0].intervals] == [(0, 10), (14, 20)]
    assert coverage[0].gaps == (gap,)
    assert coverage[1].gaps == ()
    assert coverage[0].hole_offsets == 0, "a gap is no hole"
    assert any("10 to 13" in warning for warning in result.warnings)
    assert verify_stream(project.config(), "events").damages == ()

    shown = project.run("coverage", "events", "--json")
    assert json.loads(shown.stdout)["coverage"]["partitions"][0]["gaps"][0]["to_offset"] == 14
    assert "10 to 13 are a gap" in project.run("status").stderr


def test_a_gap_without_any_event_behind_it_is_recorded_too(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """Once, not with each ingest."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    project.ingest()
    produce(kafka.bootstrap, topic, numbered(10, 10))
    admin = kafka.admin()
    delete_until(admin, topic, 20)
    assert project.ingest().events == 0
    assert project.ingest().commits == 0
    (gap,) = stream_status(project.config(), "events").gaps
    assert (gap.from_offset, gap.to_offset) == (10, 20)
    produce(kafka.bootstrap, topic, numbered(20, 1))
    assert project.ingest().events == 1
    assert len(stream_status(project.config(), "events").gaps) == 1


def test_events_deleted_while_they_are_read_are_a_gap(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """The broker takes away what a running ingest was about to ask for."""
    topic = create_topic(1)
    configure(project, kafka.bootstrap, topic, source="properties: {queued.max.messages.kbytes: 1024}")
    admin = kafka.admin()
    stop = threading.Event()
    produce(kafka.bootstrap, topic, numbered(0, 10))
    results = []
    running = threading.Thread(
        target=lambda: results.append(
            ingest_stream(project.config(), "events", follow=Follow(stop, max_latency_seconds=1))
        )
    )
    running.start()
    try:
        wait_for(lambda: stream_status(project.config(), "events").events == 10)
        # Written and deleted between two of its looks, more often than it can look.
        for round_ in range(30):
            produce(kafka.bootstrap, topic, numbered(10 + round_ * 50, 50, size=50_000))
            delete_until(admin, topic, 10 + round_ * 50 + 50)
        produce(kafka.bootstrap, topic, numbered(5000, 5))
        wait_for(lambda: stream_status(project.config(), "events").lag.events == 0)
    finally:
        stop.set()
        running.join()
    gaps = stream_coverage(project.config(), "events").partitions[0].gaps
    records = archived(project)[0]
    assert len(records) + sum(gap.to_offset - gap.from_offset for gap in gaps) == 10 + 1500 + 5
    assert verify_stream(project.config(), "events").damages == ()


# Another topic


def test_a_topic_that_was_made_anew_is_never_mixed_with_the_old_one(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """Whether it has fewer events than the archive, or more; accepting makes a new generation."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    project.ingest()
    old = archived(project)
    admin = kafka.admin()
    recreate(admin, topic)
    for count in (3, 20):
        produce(kafka.bootstrap, topic, [Event(b"new")] * count)
        with pytest.raises(SourceProblem, match=r"made anew.*sources accept events"):
            project.ingest()
        assert "made anew" in stream_status(project.config(), "events").unreadable[0]
        assert archived(project) == old

    accepted = accept_source(project.config(), "events")
    assert accepted.events == 23
    (claim,) = {record["source"] for record in sources(project) if record["source"].endswith("#2")}
    assert archived(project, source_id=claim)[0] == consumed(kafka.bootstrap, topic)[0]
    assert archived(project, source_id=claim.removesuffix("#2")) == old
    assert verify_stream(project.config(), "events").damages == ()
    with pytest.raises(UsageError, match="--partition"):
        accept_source(project.config(), "events")
    produce(kafka.bootstrap, topic, [Event(b"newer")])
    assert project.ingest().events == 1


def sources(project: Project) -> list[dict[str, str]]:
    """Sources that the archive names."""
    done = project.run("sql", "select distinct source_id as source from archive.events", "--format", "json")
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_a_topic_made_anew_under_a_running_ingest_is_not_archived(
    project: Project, kafka: Kafka, topic: str
) -> None:
    """Although the new one has events at the very offsets that are read next."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    stop = threading.Event()
    failures = []

    def follow() -> None:
        try:
            ingest_stream(project.config(), "events", follow=Follow(stop, max_latency_seconds=1))
        except SourceProblem as error:
            failures.append(error)

    running = threading.Thread(target=follow)
    running.start()
    try:
        wait_for(lambda: stream_status(project.config(), "events").events == 10)
        admin = kafka.admin()
        recreate(admin, topic)
        produce(kafka.bootstrap, topic, [Event(b"new")] * 50)
        running.join(60)
        assert not running.is_alive()
    finally:
        stop.set()
        running.join()
    assert "made anew" in str(failures[0])
    assert all(record[2] != b"new" for record in archived(project)[0])


# Fewer or other events


@pytest.fixture
def restored(project: Project, private_kafka: PrivateKafka) -> tuple[Kafka, str]:
    """A broker that was restored from a copy of when its topic had 10 events; 25 are archived."""
    kafka = private_kafka()
    kafka.create_topic("events", 2)
    produce(kafka.bootstrap, "events", numbered(0, 10))
    produce(kafka.bootstrap, "events", numbered(0, 4, partition=1))
    (node,) = kafka.nodes
    node.stop()
    copy = node.folder.with_name("copy")
    shutil.copytree(node.folder, copy)
    node.start()
    kafka.wait_until_ready()
    produce(kafka.bootstrap, "events", numbered(10, 15))
    configure(project, kafka.bootstrap, "events")
    assert project.ingest().events == 29
    node.stop()
    shutil.rmtree(node.folder)
    shutil.copytree(copy, node.folder)
    node.start()
    kafka.wait_until_ready()
    return kafka, "events"


def test_a_broker_with_less_than_the_archive_stops_that_partition(
    project: Project, restored: tuple[Kafka, str]
) -> None:
    """Loud, nothing overwritten, the others go on; the operator's decision makes a new generation."""
    kafka, topic = restored
    old = archived(project)
    produce(kafka.bootstrap, topic, numbered(4, 3, partition=1))
    result = project.ingest()
    assert result.events == 3
    (problem,) = result.problems
    assert "partition 0 ends at offset 10 at the broker, but is archived up to 25" in str(problem)
    assert "sources accept events --partition 0" in str(problem)
    assert "ends at offset 10" in stream_status(project.config(), "events").unreadable[0]
    assert archived(project)[0] == old[0]
    assert project.run("ingest").returncode == 1

    assert accept_source(project.config(), "events", partition=0).events == 10
    (second,) = {record["source"] for record in sources(project) if record["source"].endswith("#2")}
    assert archived(project, source_id=second)[0] == consumed(kafka.bootstrap, topic)[0]
    assert project.ingest().problems == ()
    assert verify_stream(project.config(), "events").damages == ()


def test_a_broker_that_gave_archived_offsets_away_again_is_found_out(
    project: Project, restored: tuple[Kafka, str]
) -> None:
    """It has more events than the archive by now, but not the same ones."""
    kafka, topic = restored
    old = archived(project)
    produce(kafka.bootstrap, topic, [Event(b"others %d" % n) for n in range(30)])
    result = project.ingest()
    assert result.events == 0
    (problem,) = result.problems
    assert "another event at offset 24" in str(problem)
    assert archived(project) == old
    with pytest.raises(UsageError, match="nothing to accept"):
        accept_source(project.config(), "events", partition=1)
    assert accept_source(project.config(), "events", partition=0).events == 40
    assert project.ingest().problems == ()
    assert verify_stream(project.config(), "events").damages == ()


def test_a_broker_restored_behind_the_back_of_a_running_ingest_is_found_out(
    project: Project, private_kafka: PrivateKafka
) -> None:
    """It goes on at its position after the connection broke, but first looks whether the events before are the same."""
    kafka = private_kafka()
    kafka.create_topic("events")
    produce(kafka.bootstrap, "events", numbered(0, 10))
    (node,) = kafka.nodes
    node.stop()
    copy = node.folder.with_name("copy")
    shutil.copytree(node.folder, copy)
    node.start()
    kafka.wait_until_ready()
    produce(kafka.bootstrap, "events", numbered(10, 10))
    configure(project, kafka.bootstrap, "events", source="timeout_seconds: 20")
    command = [
        "-m",
        "event_archive",
        "ingest",
        "--follow",
        "--max-latency",
        "1",
        "--config",
        str(project.config_file),
    ]
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: stream_status(project.config(), "events").events == 20)
            process.send_signal(signal.SIGSTOP)  # as if it were cut off from the network
            node.kill()
            shutil.rmtree(node.folder)
            shutil.copytree(copy, node.folder)
            node.start()
            kafka.wait_until_ready()
            produce(kafka.bootstrap, "events", [Event(b"others %d" % n) for n in range(15)])
            process.send_signal(signal.SIGCONT)
            assert process.stderr is not None
            told = ""
            while "another event at offset 19" not in told:
                told = process.stderr.readline()
                assert told, "it ended without a word"
        finally:
            process.terminate()
    assert [record[2][:2] for record in archived(project)[0]] == [b"0/"] * 20
    (problem,) = project.ingest().problems
    assert "another event at offset 19" in str(problem)
