"""Events go back into a topic as they were, each once, whatever the topic is like and however often it's done."""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from event_archive.errors import UsageError
from event_archive.replay.check import check_topic
from event_archive.replay.progress import TOPIC
from event_archive.replay.routing import Mapping
from event_archive.replay.selection import Bounds, parse_bound
from tests.kafka.replaying import FOREVER, NO_LIMIT, archive_rows, replay, values, without_offsets, writer
from tests.kafka.topics import QUICK, Event, configure, consumed, numbered, produce

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic


def test_events_come_back_as_they_were(project: Project, kafka: Kafka, create_topic: CreateTopic) -> None:
    """Null is not empty, headers keep order, duplicates and nulls, timestamps are kept however absurd, partitions too."""
    topic, target = create_topic(3, config=NO_LIMIT), create_topic(3, config=NO_LIMIT)
    odd = [
        Event(b"v", b"k", [("a", b"1"), ("b", None), ("a", b""), ("a", b"1"), ("", b"\x00\xff")]),
        Event(None, b"tombstone"),
        Event(b"", b""),
        Event(None, None, [("only", b"header")]),
        Event(b"\x00\xff\n", None, [("gr\u00fc\u00df", b"\xf0")], partition=2),
        *(Event(b"t", timestamp_ms=ms, partition=2) for ms in (-1, -2, 1, -(2**63), 2**63 - 1, 10**15, 5)),
        Event(b"x" * 900_000, b"large", partition=1),
    ]
    produce(kafka.bootstrap, topic, odd + numbered(0, 3000, partition=1))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    done = project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/{target}", "--check")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 partitions hold exactly what is archived" in done.stdout
    assert without_offsets(consumed(kafka.bootstrap, target)) == without_offsets(
        consumed(kafka.bootstrap, topic)
    )


def test_events_of_many_megabytes_come_back(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Beside small ones, and several of them in one transaction's worth of bytes."""
    limit = {"max.message.bytes": 30_000_000, **FOREVER}
    topic, target = create_topic(config=limit), create_topic(config=limit)
    noise = random.Random(3).randbytes(20_000_000)
    events = [Event(noise[n:]) for n in range(4)] + numbered(0, 100)
    produce(kafka.bootstrap, topic, events, message_max_bytes=30_000_000)
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    made = writer(project, kafka, target)
    assert made.write().events == 104
    assert [check.is_equal for check in check_topic(made)] == [True]


def test_a_second_run_writes_nothing_and_a_later_one_only_what_is_new(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Progress is the topic's cluster's, not this process's."""
    topic, target = create_topic(2), create_topic(2, config=FOREVER)
    configure(project, kafka.bootstrap, topic)
    for first in (0, 100):
        produce(kafka.bootstrap, topic, [*numbered(first, 100), *numbered(first, 50, partition=1)])
        project.ingest()
        assert replay(project, kafka, target).events == 150
        again = project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/{target}", "--json")
        assert json.loads(again.stdout)["replay"]["events"] == 0
    assert (
        "All is there already: 300 events"
        in project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/{target}").stdout
    )
    assert without_offsets(consumed(kafka.bootstrap, target)) == without_offsets(
        consumed(kafka.bootstrap, topic)
    )


def test_keys_decide_the_partition_as_other_clients_have_it(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """murmur2, as the Java clients and librdkafka's murmur2; events of one key or of one partition without keys keep their order."""
    topic, target, expected = create_topic(2), create_topic(5, config=FOREVER), create_topic(5)
    keys = [b"", *(b"key-%d" % n for n in range(200)), b"a\xff\x80", b"a longer key than others"]
    events = [Event(b"%d" % n, keys[n % len(keys)], partition=n % len(keys) % 2) for n in range(1000)]
    produce(kafka.bootstrap, topic, [*events, *(Event(b"none %d" % n, partition=1) for n in range(20))])
    produce(
        kafka.bootstrap,
        expected,
        [Event(e.value, e.key, partition=-1) for e in events],
        partitioner="murmur2",
    )
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    assert replay(project, kafka, target, mapping=Mapping.hash).events == 1020
    found = values(kafka, target)
    assert [value for value in found[1] if value.startswith(b"none")] == [b"none %d" % n for n in range(20)]
    keyed = {p: sorted(v for v in there if not v.startswith(b"none")) for p, there in found.items()}
    assert keyed == {p: sorted(there) for p, there in values(kafka, expected).items()}
    place = {value: (p, i) for p, there in found.items() for i, value in enumerate(there)}
    for n in range(len(keys), 1000):
        assert place[b"%d" % (n - len(keys))] < place[b"%d" % n]


FIRST = Event(b"", b"k", timestamp_ms=1, headers=[("h", b"x")])
SECOND = Event(b"1", b"", timestamp_ms=1)


@pytest.mark.parametrize(
    "planted",
    [
        [SECOND, FIRST],
        [replace(FIRST, headers=None), SECOND],
        [replace(FIRST, headers=[("h", None)]), SECOND],
        [replace(FIRST, headers=[("h", b""), ("x", b"")]), SECOND],
        [FIRST, replace(SECOND, timestamp_ms=2)],
        [FIRST, replace(SECOND, key=None)],
        [replace(FIRST, value=None), SECOND],
        [replace(FIRST, value=b"k", key=b""), SECOND],
        [FIRST],
        [FIRST, SECOND, SECOND],
    ],
    ids=[
        "order",
        "no header",
        "header value",
        "header key",
        "timestamp",
        "null key",
        "null value",
        "key for value",
        "one lost",
        "one twice",
    ],
)
def test_the_check_finds_whatever_differs(
    planted: list[Event], project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """By reading the topic, whoever has written it; nothing is written by it."""
    topic, target = create_topic(2, config=FOREVER), create_topic(2, config=FOREVER)
    elsewhere = [Event(b"same", partition=1, timestamp_ms=3)]
    produce(kafka.bootstrap, topic, [FIRST, SECOND, *elsewhere])
    produce(kafka.bootstrap, target, planted + elsewhere)
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    assert {c.partition: c.is_equal for c in check_topic(writer(project, kafka, target))} == {
        0: False,
        1: True,
    }


def test_a_difference_ends_the_command_with_exit_code_one(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Also if all was written before."""
    topic, target = create_topic(), create_topic(config=FOREVER)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    replay(project, kafka, target)
    produce(kafka.bootstrap, target, [Event(b"somebody else's")])
    done = project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/{target}", "--check", "--json")
    assert done.returncode == 1
    (partition,) = json.loads(done.stdout)["partitions"]
    assert (partition["archived"]["events"], partition["found"]["events"]) == (10, 11)


def test_a_timestamp_of_zero_is_written_only_as_asked_for(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """The client library takes it for the present time: the event is named, and nothing stays in the topic."""
    target = create_topic(config=FOREVER)
    configure(project, kafka.bootstrap, "never-read")
    archive_rows(
        project,
        [
            {"timestamp_ms": stamp, "timestamp_type": "create_time", "value": b"v"}
            for stamp in (7, 0, None, 9)
        ],
    )
    with pytest.raises(UsageError, match=r"offset 1 has the timestamp 0.*--zero-timestamp"):
        replay(project, kafka, target)
    assert consumed(kafka.bootstrap, target) == {}
    made = writer(project, kafka, target, zero_timestamp_ms=1)
    assert made.write().events == 4
    assert [record[4][1] for record in consumed(kafka.bootstrap, target)[0]] == [7, 1, -1, 9]
    assert all(check.is_equal for check in check_topic(made))


def test_times_and_positions_bound_what_is_replayed(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """A time is each event's own, whatever its place; positions are offsets of the source."""
    topic = create_topic(2, config=NO_LIMIT)
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    start_ms = int(start.timestamp() * 1000)
    shuffled = [3, 0, 2, 9, 1, 4, 8, 5, 7, 6]
    produce(kafka.bootstrap, topic, [Event(b"%d" % n, timestamp_ms=start_ms + n * 1000) for n in shuffled])
    produce(kafka.bootstrap, topic, [Event(b"timeless", timestamp_ms=-1)])
    produce(kafka.bootstrap, topic, numbered(0, 4, partition=1, size=0))
    configure(project, kafka.bootstrap, topic)
    project.ingest()

    def replayed(begin: str | None, end: str | None) -> dict[int, list[bytes]]:
        target = create_topic(2, config=NO_LIMIT)
        replay(project, kafka, target, Bounds(parse_bound(begin, "--from"), parse_bound(end, "--until")))
        return values(kafka, target)

    assert replayed("2026-01-01T00:00:02Z", "2026-01-01T01:00:05+01:00") == {0: [b"3", b"2", b"4"]}
    assert replayed("0:1,1:4", "0:4") == {0: [b"0", b"2", b"9"]}
    assert replayed(None, "0:1,1:2") == {0: [b"3"], 1: [b"1/0", b"1/1"]}
    with pytest.raises(UsageError, match="with its zone"):
        parse_bound("2026-01-01", "--from")


def test_events_without_a_time_are_said_to_be_left_out(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """They meet no bound of time."""
    topic, target = create_topic(config=NO_LIMIT), create_topic(config=NO_LIMIT)
    produce(kafka.bootstrap, topic, [Event(b"1", timestamp_ms=1), Event(b"none", timestamp_ms=-1)])
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    url = f"kafka://{kafka.bootstrap}/{target}"
    done = project.run("replay", "events", "--to", url, "--until", "2026-01-01T00:00:00Z")
    assert "1 events that carry no time were left out" in done.stderr
    assert values(kafka, target) == {0: [b"1"]}


def test_only_the_newest_generation_of_a_topic_is_replayed(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """A topic that was made anew would be mixed with the old one of its name."""
    topic = create_topic(2)
    produce(kafka.bootstrap, topic, [*numbered(0, 3), *numbered(0, 3, partition=1)])
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    admin = kafka.admin()
    admin.delete_topics([topic])[topic].result(30)
    for _ in range(100):
        if topic not in admin.list_topics(timeout=10).topics:
            break
        time.sleep(0.1)
    create_topic(1, name=topic)
    produce(kafka.bootstrap, topic, [Event(b"new")])
    assert project.run("sources", "accept", "events").returncode == 0
    target, both = create_topic(2, config=FOREVER), create_topic(2, config=FOREVER)
    done = project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/{target}")
    assert values(kafka, target) == {0: [b"new"]}, done.stderr
    assert "6 events of older generations were left out" in done.stderr
    replay(project, kafka, both, Bounds(all_generations=True))
    assert {p: len(found) for p, found in values(kafka, both).items()} == {0: 4, 1: 3}


def test_a_rate_is_kept(project: Project, kafka: Kafka, create_topic: CreateTopic) -> None:
    """And readers see events as they come, not all at the end."""
    topic, target = create_topic(), create_topic(config=FOREVER)
    produce(kafka.bootstrap, topic, numbered(0, 60))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    done = replay(project, kafka, target, events_per_second=20.0)
    assert 2.5 < done.seconds < 20
    assert done.transactions > 1


def test_progress_behind_an_open_transaction_is_waited_for(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """The replay of another stream holds back what readers see of the progress: taken for none, all would be doubled."""
    topic, target = create_topic(), create_topic(config=FOREVER)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    writer(project, kafka, target)._progress_topic.prepare()
    other = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": target,
            "transaction.timeout.ms": 4000,
            **QUICK,
        }
    )
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(TOPIC, b"{}", b"another replay's", 0)
    assert other.flush(30) == 0
    assert replay(project, kafka, target).events == 10
    assert replay(project, kafka, target).events == 0  # its progress lies behind the open transaction
    assert len(values(kafka, target)[0]) == 10
