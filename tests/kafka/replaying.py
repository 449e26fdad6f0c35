"""Replays into topics, and what tests compare them by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from event_archive.appending import Appender
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.replay.events import ArchivedEvents
from event_archive.replay.selection import Bounds
from event_archive.replay.target import parse_target
from event_archive.replay.topic import Options, TopicReplay, TopicWriter
from event_archive.sources.kafka.positions import PartitionClaim, encode_claims, runs_of
from tests.kafka.topics import consumed

if TYPE_CHECKING:
    from typing import Any

    from demo.kafka.broker import Kafka
    from tests.conftest import Project

NO_LIMIT = {
    "message.timestamp.after.max.ms": 2**63 - 1,
    "message.timestamp.before.max.ms": 2**63 - 1,
    "retention.ms": -1,
}
FOREVER = {"retention.ms": -1}


def writer(
    project: Project, kafka: Kafka, target: str, bounds: Bounds | None = None, **options: Any
) -> TopicWriter:
    """A replay of the project's stream."""
    config = project.config()
    archived = ArchivedEvents(config, "events", bounds or Bounds())
    source = parse_target(config, "events", f"kafka://{kafka.bootstrap}/{target}", None)
    return TopicWriter("events", archived, source, Options(**options))


def replay(
    project: Project, kafka: Kafka, target: str, bounds: Bounds | None = None, **options: Any
) -> TopicReplay:
    """Replays the project's stream in this process."""
    return writer(project, kafka, target, bounds, **options).write()


def without_offsets(records: dict[int, list[Any]]) -> dict[int, list[Any]]:
    """What a replay keeps of each record: a topic gives offsets of its own."""
    return {partition: [record[1:] for record in found] for partition, found in records.items()}


def values(kafka: Kafka, topic: str) -> dict[int, list[bytes]]:
    """Values in a topic, by partition."""
    return {p: [record[2] for record in found] for p, found in consumed(kafka.bootstrap, topic).items()}


def archive_rows(project: Project, rows: list[dict[str, Any]]) -> None:
    """Commits rows that no client could produce, as one topic's partition 0."""
    appender = Appender("events", project.config().stream("events"), project.store)
    appender.open(lambda _commit: None)
    blank: dict[str, Any] = dict.fromkeys(SOURCE_SCHEMA.names)
    place = {"source_id": "kafka://c/t", "source_partition": 0}
    full = [{**blank, **place, "source_offset": i, **row} for i, row in enumerate(rows)]
    appender.write_rows(pa.Table.from_pylist(full, schema=SOURCE_SCHEMA), 0)
    claim = PartitionClaim("kafka://c/t", "id", 0, 0, len(rows), runs_of(np.arange(len(rows))))
    appender.commit(encode_claims([claim]), application="test")
