"""`ingest --follow`: goes on until it is told to stop, commits neither too late nor too often, and shares with others."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from event_archive.archive.history import iter_commits
from event_archive.status import stream_status
from tests.kafka.topics import QUICK, assert_same, configure, numbered, produce, send

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Starts `event-archive ingest --follow`."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "event_archive",
            "ingest",
            "--follow",
            *arguments,
            "--config",
            str(project.config_file),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[str, str]:
    """Ends it as a service manager does."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


def wait_for_events(project: Project, count: int, timeout_seconds: float = 60) -> float:
    """Until so many events are archived; returns the seconds that it took."""
    started = time.monotonic()
    while stream_status(project.config(), "events").events < count:
        assert time.monotonic() - started < timeout_seconds
        time.sleep(0.05)
    return time.monotonic() - started


def test_events_are_committed_within_the_latency_and_not_one_by_one(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """At most a commit a second, however the events drip."""
    topic = create_topic(3)
    configure(project, kafka.bootstrap, topic)
    process = start(project, "--max-latency", "2")
    try:
        produce(kafka.bootstrap, topic, numbered(0, 10))
        wait_for_events(project, 10)
        producer = Producer({"bootstrap.servers": kafka.bootstrap, **QUICK})
        for n in range(60):
            send(producer, topic, numbered(10 + n, 1, partition=n % 3))
            producer.flush(10)
            time.sleep(0.05)
        assert wait_for_events(project, 70) < 10
    finally:
        out, err = end(process)
    assert "70" in out
    assert err == ""
    commits = [commit for commit in iter_commits(project.store) if commit.events]
    assert len(commits) <= 5
    assert_same(project, kafka.bootstrap, topic)


def test_sigterm_ends_it_with_a_last_commit(project: Project, kafka: Kafka, topic: str) -> None:
    """What was read and waits for the latency isn't left to the next run."""
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 5))
    process = start(project, "--max-latency", "600")
    deadline = time.monotonic() + 60
    while not (project.table / "_delta_log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)
    assert stream_status(project.config(), "events").events == 0
    end(process)
    assert stream_status(project.config(), "events").events == 5


def test_a_commit_is_made_at_its_size_before_the_latency(project: Project, kafka: Kafka, topic: str) -> None:
    """Here 100 kB, and then what is left at the end."""
    configure(project, kafka.bootstrap, topic, stream="commit_bytes: 100 KB")
    process = start(project, "--max-latency", "600")
    try:
        produce(kafka.bootstrap, topic, numbered(0, 500, size=1000))
        wait_for_events(project, 300)
    finally:
        end(process, signal.SIGINT)
    assert_same(project, kafka.bootstrap, topic)


def test_two_followers_share_a_stream_without_doubling_anything(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """One of them wins each commit, the other drops its batch and goes on from there."""
    topic = create_topic(4)
    configure(project, kafka.bootstrap, topic)
    processes = [start(project, "--max-latency", "1") for _ in range(2)]
    try:
        for round_ in range(40):
            for partition in range(4):
                produce(kafka.bootstrap, topic, numbered(round_ * 25, 25, partition=partition))
        wait_for_events(project, 4000)
    finally:
        ended = [end(process) for process in processes]
    assert any("another commit to this stream came first" in err for _, err in ended), ended
    assert_same(project, kafka.bootstrap, topic)


def test_partitions_that_are_added_are_followed_too(project: Project, kafka: Kafka, topic: str) -> None:
    """Within some seconds, without a restart."""
    from confluent_kafka.admin import NewPartitions

    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, numbered(0, 5))
    process = start(project, "--max-latency", "1")
    try:
        wait_for_events(project, 5)
        admin = kafka.admin()
        admin.create_partitions([NewPartitions(topic, 4)])[topic].result()
        produce(kafka.bootstrap, topic, numbered(0, 7, partition=3))
        wait_for_events(project, 12)
    finally:
        end(process)
    assert_same(project, kafka.bootstrap, topic)


def test_a_landing_folder_can_be_followed_too(project: Project) -> None:
    """New files come in without a schedule."""
    project.write("a.jsonl", b"1\n2\n")
    process = start(project)
    try:
        wait_for_events(project, 2)
        project.write("b.jsonl", b"3\n")
        wait_for_events(project, 3)
    finally:
        end(process)


def test_a_topic_of_a_thousand_partitions_is_one_commit(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """With events in all of them, and again with events in some."""
    topic = create_topic(1000)
    configure(project, kafka.bootstrap, topic)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **QUICK})
    for partition in range(1000):
        send(producer, topic, numbered(0, 3, partition=partition))
    assert producer.flush(120) == 0
    result = project.ingest()
    assert (result.events, result.commits) == (3000, 1)
    for partition in (0, 500, 999):
        produce(kafka.bootstrap, topic, numbered(3, 2, partition=partition))
    assert project.ingest().events == 6
    assert_same(project, kafka.bootstrap, topic)
