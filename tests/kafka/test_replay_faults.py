"""A replay that is killed, frozen or run twice at once: readers of the topic get each event once, in order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from event_archive.replay.check import check_topic
from event_archive.replay.events import ArchivedEvents
from event_archive.replay.selection import Bounds
from event_archive.replay.target import parse_target
from event_archive.replay.topic import Options, TopicWriter
from tests.kafka.topics import configure, consumed, numbered, produce

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import PrivateKafka

EVENTS = 12_000
PARTITIONS = 3
KILLS = 20 if os.environ.get("CI") == "true" else 8
FOREVER = {"retention.ms": -1}
TAKEN_OVER = "has taken over"
# A process that makes many small transactions, so that each moment of one is hit now and then; the argument is a rate.
REPLAY = """
import sys
from pathlib import Path
from event_archive.config import load_config
from event_archive.errors import EventArchiveError
from event_archive.replay import events, topic
from event_archive.replay.selection import Bounds
from event_archive.replay.target import parse_target

topic.EVENTS_A_TRANSACTION = 50
events.ROWS_A_BLOCK = 25
from event_archive.replay import pace
pace.ROWS_A_BLOCK = 25
config = load_config(Path(sys.argv[1]))
archived = events.ArchivedEvents(config, "events", Bounds())
print("ready", flush=True)
sys.stdin.readline()
try:
    target = parse_target(config, "events", sys.argv[2], None)
    result = topic.TopicWriter("events", archived, target, topic.Options(events_per_second=float(sys.argv[3]))).write()
except EventArchiveError as error:
    sys.exit(str(error))
print(result.events, result.transactions, flush=True)
"""


@dataclass
class Restore:
    """A filled archive and an empty topic of the same cluster."""

    project: Project
    kafka: Kafka

    @property
    def url(self) -> str:
        """The topic."""
        return f"kafka://{self.kafka.bootstrap}/target"

    def begin(self, rate: float = 1e9) -> subprocess.Popen[str]:
        """Starts a replay in a process of its own; it is about to connect when this returns."""
        process = subprocess.Popen(
            [sys.executable, "-c", REPLAY, str(self.project.config_file), self.url, str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        process.stdin.write("\n")
        process.stdin.flush()
        return process

    def written(self) -> int:
        """Events that a reader sees in the target."""
        return sum(map(len, consumed(self.kafka.bootstrap, "target").values()))

    def assert_exact(self) -> None:
        """Source and target hold the same events in the same order, by the word of an ordinary consumer."""
        source, target = (
            {p: [record[1:] for record in found] for p, found in consumed(self.kafka.bootstrap, name).items()}
            for name in ("source", "target")
        )
        assert {p: len(found) for p, found in target.items()} == {
            p: len(found) for p, found in source.items()
        }
        assert target == source


@pytest.fixture
def restore(project: Project, private_kafka: PrivateKafka) -> Restore:
    """A cluster of the test's own: what a killed replay leaves open must not hold up other tests."""
    kafka = private_kafka()
    for name in ("source", "target"):
        kafka.create_topic(name, PARTITIONS, config=FOREVER)
    for partition in range(PARTITIONS):
        produce(kafka.bootstrap, "source", numbered(0, EVENTS // PARTITIONS, partition=partition))
    configure(project, kafka.bootstrap, "source")
    project.ingest()
    return Restore(project, kafka)


def test_a_replay_that_is_killed_again_and_again_loses_and_doubles_nothing(restore: Restore) -> None:
    """At random moments of its start, of a transaction, between two of them; readers never see half of one."""
    generator = random.Random(11)
    kills = 0
    while kills < KILLS:
        process = restore.begin(rate=4000)
        try:
            process.communicate(timeout=generator.uniform(0.02, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        else:
            break
    assert kills >= min(KILLS, 4)
    out, errors = restore.begin().communicate(timeout=120)
    assert out, errors
    restore.assert_exact()


def test_of_two_replays_at_once_one_goes_on_and_nothing_is_doubled(restore: Restore) -> None:
    """The brokers refuse the one that began first, whatever it is about to do."""
    generator = random.Random(5)
    running = [restore.begin(rate=3000)]
    ends = []
    for _ in range(6):
        time.sleep(generator.uniform(0.0, 0.4))
        running.append(restore.begin(rate=3000))
    for process in running:
        out, errors = process.communicate(timeout=120)
        ends.append((process.returncode, errors))
        assert out or (errors.count("\n") == 1 and "run the command again" in errors), errors
    restore.assert_exact()
    assert any(returncode == 0 for returncode, _ in ends)
    assert any(TAKEN_OVER in errors for _, errors in ends)


def test_a_replay_that_wakes_after_another_has_finished_writes_nothing_more(restore: Restore) -> None:
    """Frozen in the middle of a transaction; its last events are refused when it wakes."""
    frozen = restore.begin(rate=3000)
    until = time.monotonic() + 60
    while restore.written() < 500:
        assert time.monotonic() < until
    frozen.send_signal(signal.SIGSTOP)
    try:
        out, errors = restore.begin().communicate(timeout=120)
        assert out, errors
        assert 0 < int(out.split()[0]) < EVENTS
        restore.assert_exact()
    finally:
        frozen.send_signal(signal.SIGCONT)
    out, errors = frozen.communicate(timeout=60)
    assert (out, TAKEN_OVER in errors) == ("", True), errors
    restore.assert_exact()


def test_a_replay_goes_on_when_the_broker_comes_back(restore: Restore) -> None:
    """Killed and started again in the middle of it; at worst the command has to be run again."""
    process = restore.begin(rate=3000)
    until = time.monotonic() + 60
    while restore.written() < 500:
        assert time.monotonic() < until
    (node,) = restore.kafka.nodes
    node.kill()
    node.start()
    restore.kafka.wait_until_ready()
    process.communicate(timeout=200)
    out, errors = restore.begin().communicate(timeout=120)
    assert out, errors
    restore.assert_exact()


def test_a_topic_that_is_made_anew_meanwhile_ends_the_replay(restore: Restore) -> None:
    """Else its first events would be missing without a word."""
    config = restore.project.config()
    archived = ArchivedEvents(config, "events", Bounds())
    target = parse_target(config, "events", restore.url, None)
    writer = TopicWriter("events", archived, target, Options())
    admin = restore.kafka.admin()
    admin.delete_topics(["target"])["target"].result(30)
    while "target" in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    restore.kafka.create_topic("target", PARTITIONS, config=FOREVER)
    with pytest.raises(Exception, match="made anew while events were written"):
        writer.write()
    assert restore.written() == 0
    again = TopicWriter("events", archived, target, Options())
    again.write()
    assert all(check.is_equal for check in check_topic(again))
