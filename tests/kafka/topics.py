"""A project whose stream is a topic: producing to it, and reading archive and topic back to compare them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition

from event_archive.archive.snapshot import read_snapshot
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka.admin import AdminClient

    from tests.conftest import Project

Record = tuple[int, Any, Any, Any, Any]
"""Offset, key, value, headers, timestamp as (type, milliseconds)."""

_TYPES = {1: "create_time", 2: "log_append_time"}
QUICK = {"linger.ms": 5, "log_level": 0}


@dataclass(frozen=True)
class Event:
    """What is produced."""

    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] | None = None
    timestamp_ms: int = 0
    """0 means now, as librdkafka has it."""
    partition: int = 0


def configure(project: Project, bootstrap: str, topic: str, source: str = "", stream: str = "") -> None:
    """Writes the configuration; `source` and `stream` are further lines of YAML, one key a line."""
    lines = [f"type: kafka\nbrokers: {bootstrap}\ntopic: {topic}", *filter(None, [source])]
    indented = "\n".join("      " + line for part in lines for line in part.splitlines())
    project.config_file.write_text(
        f"archive: archive\nwarehouse: warehouse\nstreams:\n  events:\n    source:\n{indented}\n"
        + "".join(f"    {line}\n" for line in stream.splitlines())
    )


def produce(bootstrap: str, topic: str, events: Iterable[Event], **properties: Any) -> None:
    """Produces the events and waits until they are acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", **QUICK, **_dotted(properties)})
    send(producer, topic, events)
    assert producer.flush(60) == 0


def send(producer: Producer, topic: str, events: Iterable[Event]) -> None:
    """Hands events to a producer."""
    for event in events:
        producer.produce(
            topic,
            value=event.value,
            key=event.key,
            headers=event.headers,  # type: ignore[arg-type] # null values are fine
            partition=event.partition,
            timestamp=event.timestamp_ms,
            on_delivery=_raise,
        )
        producer.poll(0)


def numbered(first: int, count: int, *, partition: int = 0, size: int = 20) -> list[Event]:
    """Events that are all different."""
    return [
        Event(b"%d/%d" % (partition, n) + b"." * size, partition=partition)
        for n in range(first, first + count)
    ]


def _raise(error: Any, _message: Any) -> None:
    if error is not None:
        raise AssertionError(error.str())


def _dotted(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in properties.items()}


def consumed(
    bootstrap: str, topic: str, *, isolation: str = "read_committed", timeout_seconds: float = 60
) -> dict[int, list[Record]]:
    """Everything that an ordinary consumer gets of the topic now, by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "independent",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
        }
    )
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found: dict[int, list[Record]] = {number: [] for number in partitions}
    waiting = set(partitions)
    until = time.monotonic() + timeout_seconds
    while waiting:
        assert time.monotonic() < until, f"partitions {waiting} have not come to their end"
        for message in consumer.consume(1000, 0.2):
            partition: Any = message.partition()
            offset: Any = message.offset()
            if error := message.error():
                assert error.name() == "_PARTITION_EOF", error
                waiting.discard(partition)
            else:
                found[partition].append(
                    (offset, message.key(), message.value(), message.headers(), message.timestamp())
                )
    consumer.close()
    return {number: records for number, records in found.items() if records}


def archived(project: Project, *, source_id: str | None = None) -> dict[int, list[Record]]:
    """Everything that the archive holds, by partition; rows of a file must be in order, and none be there twice.

    Args:
        project: whose archive.
        source_id: only rows of this source; None asks that there is but one.
    """
    found: dict[int, list[Record]] = defaultdict(list)
    sources = set()
    for path in read_snapshot(project.store).file_paths():
        with Path(path).open("rb") as file:
            rows = pq.ParquetFile(file).read().to_pylist()
        places = [(row["source_id"], row["source_partition"], row["source_offset"]) for row in rows]
        assert places == sorted(places)
        for row in rows:
            sources.add(row["source_id"])
            if source_id in (None, row["source_id"]):
                found[row["source_partition"]].append(_record(row))
    assert source_id is not None or len(sources) <= 1, sources
    for records in found.values():
        records.sort(key=lambda record: record[0])
        assert len({record[0] for record in records}) == len(records), "an event is there twice"
    return dict(found)


def _record(row: dict[str, Any]) -> Record:
    kind = next((number for number, name in _TYPES.items() if name == row["timestamp_type"]), 0)
    headers = row["headers"] and [(header["key"], header["value"]) for header in row["headers"]]
    return (row["source_offset"], row["key"], row["value"], headers, (kind, row["timestamp_ms"]))


def assert_same(project: Project, bootstrap: str, topic: str, *, isolation: str = "read_committed") -> None:
    """The archive holds what the topic holds, each record once, and proves whole."""
    assert archived(project) == consumed(bootstrap, topic, isolation=isolation)
    assert verify_stream(project.config(), "events").damages == ()


def delete_until(admin: AdminClient, topic: str, offset: int, partition: int = 0) -> None:
    """Deletes the oldest events, as retention does."""
    (deleted,) = admin.delete_records([TopicPartition(topic, partition, offset)]).values()
    deleted.result()


def recreate(admin: AdminClient, topic: str, partitions: int = 1) -> None:
    """Deletes a topic and makes it again under the same name."""
    from confluent_kafka.admin import NewTopic

    admin.delete_topics([topic])[topic].result()
    until = time.monotonic() + 30
    while topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < until
        time.sleep(0.05)
    admin.create_topics([NewTopic(topic, partitions)])[topic].result()
    while any(p.leader < 0 for p in admin.list_topics(topic, timeout=10).topics[topic].partitions.values()):
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_for(is_so: Callable[[], object], timeout_seconds: float = 60) -> None:
    """Until the condition holds."""
    until = time.monotonic() + timeout_seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)
