"""A million events restored into an empty topic, and archived again from there: the same events, partition by partition."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from event_archive.archive.snapshot import read_snapshot
from event_archive.storage.folder import FolderStore
from tests.kafka.topics import QUICK, configure

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic

EVENTS = 1_000_000
PARTITIONS = 12
FOREVER = {"retention.ms": -1}


def fill(bootstrap: str, topic: str) -> None:
    """Produces events of which no two are the same: some with headers, some without keys, some tombstones."""
    generator = np.random.default_rng(3)
    noise = generator.bytes(EVENTS + 64)
    partitions = generator.integers(0, PARTITIONS, EVENTS).tolist()
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "queue.buffering.max.messages": 2 * EVENTS,
            "compression.type": "lz4",
            **QUICK,
        }
    )
    headers: Any = [("trace", b"0123456789abcdef"), ("none", None)]
    for n, partition in enumerate(partitions):
        producer.produce(
            topic,
            None if n % 101 == 0 else b"%d " % n + noise[n : n + 40],
            None if n % 7 == 0 else b"key-%d" % (n % 5000),
            partition,
            timestamp=1_700_000_000_000 + n,
            headers=headers if n % 3 == 0 else None,
        )
    assert producer.flush(120) == 0


def digests(table: Path) -> dict[int, str]:
    """SHA-256 of each partition: over all that is archived of its events but their offsets."""
    running: dict[int, Any] = {}
    for path in read_snapshot(FolderStore(table)).file_paths():
        with Path(path).open("rb") as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(
                    group, columns=["source_partition", "timestamp_ms", "key", "value", "headers"]
                )
                for partition, *event in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                    digest = running.get(partition) or running.setdefault(partition, hashlib.sha256())
                    text = repr(event).encode()
                    digest.update(struct.pack("<q", len(text)) + text)
    return {partition: digest.hexdigest() for partition, digest in running.items()}


@pytest.mark.slow
def test_a_restored_million_is_archived_again_with_the_same_digests(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """All by the command line; the check by replay itself agrees."""
    topic, restored = create_topic(PARTITIONS, config=FOREVER), create_topic(PARTITIONS, config=FOREVER)
    fill(kafka.bootstrap, topic)
    configure(project, kafka.bootstrap, topic)
    assert project.ingest().events == EVENTS
    done = project.run(
        "replay", "events", "--to", f"kafka://{kafka.bootstrap}/{restored}", "--check", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["replay"]["events"] == EVENTS
    expected = digests(project.table)
    assert len(expected) == PARTITIONS
    project.table.rename(project.table.with_name("first"))
    configure(project, kafka.bootstrap, restored)
    assert project.ingest().events == EVENTS
    assert digests(project.table) == expected
