"""A simulated stream in a topic is, byte for byte, what it is in files; stopped and done again too."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType

from demo.generate import Topics, generate
from demo.topic import ensure_topic
from demo.topic_outlet import OtherHistory
from tests.demo.naive_reader import content_of
from tests.kafka.topics import Record, consumed

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka

ROOT = Path(__file__).parents[2]
EVENTS, SEED = 8_000, 11
STREAMS = ("bookings", "cart_events")
KEY_FIELDS = {"bookings": "flight_id", "cart_events": "cart_id"}
END_OF_2012_MS, END_OF_2013_MS = 1_356_998_400_000, 1_388_534_400_000


@dataclass(frozen=True)
class InFiles:
    """A history in landing folders, and its truth."""

    lines: dict[str, Counter[bytes]]
    """What stands before each line feed, apart from empty lines."""
    truth: Path


@pytest.fixture(scope="module")
def in_files(tmp_path_factory: pytest.TempPathFactory) -> InFiles:
    """Return the history as the services land it in files."""
    folder = tmp_path_factory.mktemp("files")
    generate(events=EVENTS, seed=SEED, landing=folder / "landing", truth=folder / "truth")
    lines = {
        stream: Counter(
            line
            for path in (folder / "landing" / stream).rglob("*")
            if path.is_file()
            for line in content_of(path).split(b"\n")
            if line
        )
        for stream in STREAMS
    }
    return InFiles(lines, folder / "truth")


@pytest.fixture
def topics(kafka: Kafka) -> Topics:
    """Return names of topics that nobody has had."""
    return Topics(kafka.bootstrap, f"{uuid.uuid4().hex[:12]}-")


@pytest.fixture(scope="module")
def in_topics(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> tuple[Topics, Path]:
    """Return the history in topics, and the folder of its truth."""
    topics = Topics(kafka.bootstrap, f"{uuid.uuid4().hex[:12]}-")
    truth = tmp_path_factory.mktemp("topics") / "truth"
    generate(events=EVENTS, seed=SEED, landing=topics, truth=truth)
    return topics, truth


def records(topics: Topics, stream: str) -> dict[int, list[Record]]:
    """Return everything that is in a stream's topic, by partition."""
    return consumed(topics.brokers, topics.topic(stream))


def values(topics: Topics, stream: str) -> Counter[bytes]:
    """Return the values of a stream's topic."""
    return Counter(record[2] for partition in records(topics, stream).values() for record in partition)


def told(value: bytes, field: str) -> str | None:
    """Return a field of a line, if it's JSON that has it."""
    try:
        event = json.loads(value)
    except ValueError:
        return None
    found = event.get(field) if isinstance(event, dict) else None
    return found if isinstance(found, str) else None


@pytest.mark.parametrize("stream", STREAMS)
def test_a_topic_gets_every_line_that_a_file_would_get(
    stream: str, in_files: InFiles, in_topics: tuple[Topics, Path]
) -> None:
    """Repeated, late, broken, with a carriage return or without: the same bytes as often; an empty line is no event."""
    topics, _ = in_topics
    assert values(topics, stream) == in_files.lines[stream]
    assert any(line.endswith(b"\r") for line in in_files.lines[stream])


def test_the_truth_is_the_same_in_both_ways(in_files: InFiles, in_topics: tuple[Topics, Path]) -> None:
    """The services don't notice where their events go."""
    _, truth = in_topics
    assert {path.name: path.read_bytes() for path in truth.iterdir()} == {
        path.name: path.read_bytes() for path in in_files.truth.iterdir()
    }


@pytest.mark.parametrize("stream", STREAMS)
def test_a_record_is_keyed_by_whom_its_line_is_about(stream: str, in_topics: tuple[Topics, Path]) -> None:
    """So all that is said of one flight or cart is in one partition; what a line doesn't say is null."""
    topics, _ = in_topics
    partitions_of: dict[bytes, set[int]] = {}
    keyless = 0
    for partition, found in records(topics, stream).items():
        for _, key, value, headers, (kind, timestamp_ms) in found:
            said = told(value, KEY_FIELDS[stream])
            assert said is None or key == said.encode()
            assert key is None or key in value
            keyless += key is None
            if key is not None:
                partitions_of.setdefault(key, set()).add(partition)
            assert [name for name, _ in headers] == ["content-type", "server"]
            assert kind == 1
            assert END_OF_2012_MS < timestamp_ms < END_OF_2013_MS
    assert keyless > 0
    assert all(len(partitions) == 1 for partitions in partitions_of.values())
    assert len({min(partitions) for partitions in partitions_of.values()}) == 6


def test_a_topic_keeps_the_years_old_events_of_the_demo(kafka: Kafka, in_topics: tuple[Topics, Path]) -> None:
    """Brokers delete by the timestamps that producers give, and these are from 2013."""
    topics, _ = in_topics
    place = ConfigResource(ResourceType.TOPIC, topics.topic("bookings"))
    admin = kafka.admin()
    config = admin.describe_configs([place])[place].result(30)
    assert config["retention.ms"].value == "-1"


def test_a_simulation_that_was_killed_goes_on_where_the_topic_ends(
    in_files: InFiles, topics: Topics, tmp_path: Path
) -> None:
    """Three times killed: nothing is missing and nothing is there once more than it should be."""
    command = [sys.executable, "-m", "demo.generate", "--events", str(EVENTS), "--seed", str(SEED)]
    command += ["--brokers", topics.brokers, "--topic-prefix", topics.prefix, "--truth", str(tmp_path / "t")]
    topic = topics.topic("cart_events")
    for share in (0.2, 0.5, 0.8):
        running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        while running.poll() is None and records_in(topics, topic) < share * EVENTS / 2:
            time.sleep(0.001)
        running.send_signal(signal.SIGKILL)  # the two processes of the streams end with it
        running.wait()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for stream in STREAMS:
        assert values(topics, stream) == in_files.lines[stream]


def records_in(topics: Topics, topic: str) -> int:
    """Return how many records the topic has by now."""
    consumer = Consumer({"bootstrap.servers": topics.brokers, "group.id": "counts"})
    count = 0
    for partition in range(6):
        with contextlib.suppress(KafkaException):  # it isn't there yet
            count += consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=30, cached=False
            )[1]
    consumer.close()
    return count


def test_waves_are_continued_and_a_repeated_one_adds_nothing(
    in_files: InFiles, topics: Topics, tmp_path: Path
) -> None:
    """The first wave, again, then the second of two: the whole."""
    sizes = []
    for wave in (1, 1, 2):
        generate(events=EVENTS, seed=SEED, landing=topics, truth=tmp_path / "truth", waves=2, wave=wave)
        sizes.append(values(topics, "bookings").total())
    assert 0 < sizes[0] == sizes[1] < sizes[2]
    for stream in STREAMS:
        assert values(topics, stream) == in_files.lines[stream]


@pytest.mark.parametrize("other", [b'{"event_id":"somebody else\'s"}', None], ids=["other", "tombstone"])
def test_a_topic_of_another_history_is_refused_and_left_alone(
    other: Any, topics: Topics, tmp_path: Path
) -> None:
    """Nothing is sent before what is there has been compared."""
    ensure_topic(topics.brokers, topics.topic("bookings"))
    producer = Producer({"bootstrap.servers": topics.brokers})
    for _ in range(200):
        producer.produce(topics.topic("bookings"), other, partition=3)
    assert producer.flush(60) == 0
    with pytest.raises(OtherHistory, match=f"{topics.topic('bookings')} .* holds another history"):
        generate(events=EVENTS, seed=SEED, landing=topics, truth=tmp_path / "truth")
    assert [record[2] for found in records(topics, "bookings").values() for record in found] == [other] * 200


def test_a_topic_that_holds_more_than_this_history_is_refused(topics: Topics, tmp_path: Path) -> None:
    """What is beyond would be archived as if the services had said it."""
    generate(events=1_000, seed=SEED, landing=topics, truth=tmp_path / "truth")
    producer = Producer({"bootstrap.servers": topics.brokers})
    producer.produce(topics.topic("cart_events"), b"one more", partition=5)
    assert producer.flush(60) == 0
    with pytest.raises(OtherHistory, match=f"{topics.topic('cart_events')} .* holds more than this history"):
        generate(events=1_000, seed=SEED, landing=topics, truth=tmp_path / "truth")


def test_a_topic_that_does_not_keep_the_years_old_events_is_refused(
    topics: Topics, kafka: Kafka, tmp_path: Path
) -> None:
    """Somebody made it, with the retention that is usual: the broker deletes them as they come."""
    kafka.create_topic(topics.topic("bookings"), 6, config={"retention.ms": 1_000})
    with pytest.raises(OtherHistory, match=f"{topics.topic('bookings')} .* has the retention 1000 ms"):
        generate(events=1_000, seed=SEED, landing=topics, truth=tmp_path / "truth")
