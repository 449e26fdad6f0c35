"""Events leave the booking service's outbox for a topic at least once, and those of a flight in their order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.booking_commands import Book, CheckIn, Request
from demo.booking_service import BookingService
from demo.publisher import publish, to_topic
from demo.schedule import ScheduledFlight, seat_label
from demo.topic import NotDelivered, TopicWriter, ensure_topic
from tests.kafka.topics import consumed

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.kafka.conftest import CreateTopic, PrivateKafka

ROOT = Path(__file__).parents[2]
NOW = datetime(2013, 1, 1, 12, tzinfo=UTC)
FLIGHTS = [
    ScheduledFlight(f"UA{number}-EWR-2013-01-02", "UA", number, "EWR", "IAH", NOW + timedelta(days=1), 60)
    for number in range(1, 9)
]

# Publishes, and dies with -9 before anything can have been sent, or when all is confirmed.
DIES = """
import os, signal, sys
from pathlib import Path
from demo.booking_service import BookingService
from demo.publisher import publish, to_topic
from demo.topic import TopicWriter

database, brokers, topic, moment = sys.argv[1:]
deliver = to_topic(TopicWriter(brokers, topic, 6))

def deliver_and_die(events):
    if moment == "before the outbox is told":
        deliver(events)
    os.kill(os.getpid(), signal.SIGKILL)

publish(BookingService(Path(database)), deliver_and_die)
"""


def some_events(database: Path, bookings: int = 5) -> list[dict[str, Any]]:
    """Let the service decide something about each flight, and return the events."""
    requests = [Request(flight, NOW) for flight in FLIGHTS]
    for i in range(bookings):
        requests += [
            Request(Book(flight.flight_id, f"P{i}", seat_label(i), 9_900), NOW) for flight in FLIGHTS
        ]
    requests.append(Request(CheckIn("B404"), NOW))
    with BookingService(database) as service:
        return service.decide_all(requests)


def landed(brokers: str, topic: str) -> dict[int, list[tuple[bytes | None, dict[str, Any]]]]:
    """Return key and event of all records, by partition."""
    return {
        partition: [(key, json.loads(value)) for _, key, value, _, _ in records]
        for partition, records in consumed(brokers, topic).items()
    }


def ids(brokers: str, topic: str) -> list[str]:
    """Return the event ids that are in the topic."""
    return [event["event_id"] for records in landed(brokers, topic).values() for _, event in records]


@pytest.mark.parametrize(
    ("moment", "times"), [("before anything is sent", 1), ("before the outbox is told", 2)]
)
def test_a_publisher_that_is_killed_repeats_but_never_loses(
    kafka: Kafka, create_topic: CreateTopic, tmp_path: Path, moment: str, times: int
) -> None:
    """After the next run every event is there: once if nothing had been sent, else twice."""
    topic = create_topic(6)
    decided = some_events(tmp_path / "bookings.sqlite")
    ended = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path / "bookings.sqlite"), kafka.bootstrap, topic, moment],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    with BookingService(tmp_path / "bookings.sqlite") as service:
        deliver = to_topic(TopicWriter(kafka.bootstrap, topic, 6))
        assert publish(service, deliver) == len(decided)
        assert publish(service, deliver) == 0
    found = ids(kafka.bootstrap, topic)
    assert sorted(found) == sorted([event["event_id"] for event in decided] * times)


def test_events_of_a_flight_stay_in_their_order(
    kafka: Kafka, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """Keyed by flight, each flight in one partition; an event about none has no key."""
    topic = create_topic(6)
    decided = some_events(tmp_path / "bookings.sqlite", 20)
    with BookingService(tmp_path / "bookings.sqlite") as service:
        deliver = to_topic(TopicWriter(kafka.bootstrap, topic, 6))
        while publish(service, deliver, limit=30):
            pass
    partitions = landed(kafka.bootstrap, topic)
    assert len(partitions) > 1
    for records in partitions.values():
        sequences = [event["sequence"] for _, event in records]
        assert sequences == sorted(sequences)
        assert all(key == (event.get("flight_id") or "").encode() or key is None for key, event in records)
    for flight in FLIGHTS:
        key = flight.flight_id.encode()
        assert sum(any(found == key for found, _ in records) for records in partitions.values()) == 1
    assert sum(key is None for records in partitions.values() for key, _ in records) == 1
    assert sum(map(len, partitions.values())) == len(decided)


def test_an_event_that_the_brokers_refuse_stays_in_the_outbox_with_all_others(
    kafka: Kafka, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """What could not be delivered is due again, to a topic that takes it."""
    narrow, wide = create_topic(6, config={"max.message.bytes": 5_000}), create_topic(6)
    note = os.urandom(20_000).hex()  # can't be compressed to the size
    with BookingService(tmp_path / "bookings.sqlite") as service:
        service.decide_all([Request(FLIGHTS[0], NOW, note=note), Request(FLIGHTS[1], NOW)])
        with pytest.raises(NotDelivered, match=f"Not everything got into the topic {narrow} .*too large"):
            publish(service, to_topic(TopicWriter(kafka.bootstrap, narrow, 6)))
        assert publish(service, to_topic(TopicWriter(kafka.bootstrap, wide, 6))) == 2
    assert len(ids(kafka.bootstrap, wide)) == 2


def test_a_topic_with_fewer_partitions_than_were_thought_takes_nothing_quietly(
    kafka: Kafka, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """What the client itself gives up counts as not delivered, too."""
    topic = create_topic(1)
    decided = some_events(tmp_path / "bookings.sqlite")
    with BookingService(tmp_path / "bookings.sqlite") as service:
        with pytest.raises(NotDelivered, match="Unknown partition"):
            publish(service, to_topic(TopicWriter(kafka.bootstrap, topic, 6)))
        assert publish(service, to_topic(TopicWriter(kafka.bootstrap, topic, 1))) == len(decided)
    assert set(ids(kafka.bootstrap, topic)) == {event["event_id"] for event in decided}


def test_without_a_broker_the_outbox_stays_as_it_is_and_goes_out_when_there_is_one(
    private_kafka: PrivateKafka, tmp_path: Path
) -> None:
    """The broker is killed, the publisher loses patience, the broker comes back: nothing is lost."""
    kafka = private_kafka()
    partitions = ensure_topic(kafka.bootstrap, "bookings")
    decided = some_events(tmp_path / "bookings.sqlite")
    with BookingService(tmp_path / "bookings.sqlite") as service:
        kafka.kill()
        with pytest.raises(NotDelivered, match="Not everything got into the topic bookings"):
            publish(
                service, to_topic(TopicWriter(kafka.bootstrap, "bookings", partitions, patience_seconds=1))
            )
        kafka.nodes[0].start()
        assert publish(service, to_topic(TopicWriter(kafka.bootstrap, "bookings", partitions))) == len(
            decided
        )
    assert set(ids(kafka.bootstrap, "bookings")) == {event["event_id"] for event in decided}
