"""What a topic holds, by the word of an independent consumer: a SHA-256 per record over offset, key, value, headers, timestamp.

Nothing of `event_archive` is imported here, or this would be no second opinion. What doesn't live here: what an archive holds
(`archive_record`).
"""

from __future__ import annotations

import hashlib
import struct
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

Record = dict[int, bytes]
"""Digest of each record of one partition, by offset."""

Headers = list[tuple[str, bytes | None]] | None

_RECORDS_A_READ = 5000
CREATE_TIME = 1  # as librdkafka numbers the types of timestamps
_WAIT_SECONDS = 60.0


class TruthFailed(Exception):
    """Archive and topic differ, or one of them can't be read."""


def record_digest(
    offset: int, key: bytes | None, value: bytes | None, headers: Headers, timestamp: tuple[int, int]
) -> bytes:
    """SHA-256 over a record; each part has its length in front, so that no two records look alike.

    Args:
        offset: its offset.
        key: its key; null is not empty.
        value: its value; null is not empty.
        headers: in order; none at all is null.
        timestamp: type (0 none, 1 create time, 2 log append time) and milliseconds.
    """
    digest = hashlib.sha256(struct.pack("<qiq", offset, *timestamp))
    for part in (key, value):
        _add(digest, part)
    digest.update(struct.pack("<q", -1 if headers is None else len(headers)))
    for name, content in headers or ():
        _add(digest, name.encode())
        _add(digest, content)
    return digest.digest()


def _add(digest: Any, part: bytes | None) -> None:
    digest.update(struct.pack("<q", -1 if part is None else len(part)))
    digest.update(part or b"")


def partition_digest(record: Record) -> str:
    """SHA-256 of a partition: over its records' digests in order of offset."""
    return hashlib.sha256(b"".join(record[offset] for offset in sorted(record))).hexdigest()


class Witness:
    """An independent consumer of one topic: it keeps what it has seen, also after the broker has lost or deleted it."""

    def __init__(self, bootstrap: str, topic: str, *, isolation: str = "read_committed") -> None:
        self.topic = topic
        self.partitions: dict[int, Record] = {}
        self._next: dict[int, int] = {}
        self._properties = {
            "bootstrap.servers": bootstrap,
            "group.id": f"witness-{topic}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }

    @property
    def events(self) -> int:
        """Number of records seen."""
        return sum(map(len, self.partitions.values()))

    def catch_up(self) -> None:
        """Reads each partition from where it left off to its end.

        Raises:
            TruthFailed: the broker gives an offset twice, or no end in time.
        """
        consumer = Consumer(self._properties)
        try:
            numbers = sorted(
                consumer.list_topics(self.topic, timeout=_WAIT_SECONDS).topics[self.topic].partitions
            )
            ends = {
                n: consumer.get_watermark_offsets(TopicPartition(self.topic, n), timeout=_WAIT_SECONDS)[1]
                for n in numbers
            }
            consumer.assign([TopicPartition(self.topic, n, self._next.get(n, 0)) for n in numbers])
            self._read(consumer, ends)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, ends: dict[int, int]) -> None:
        until = time.monotonic() + _WAIT_SECONDS
        waiting = set(ends)
        while waiting:
            if time.monotonic() > until:
                raise TruthFailed(f"{self.topic}: partitions {sorted(waiting)} have not come to their end")
            for message in consumer.consume(_RECORDS_A_READ, 0.2):
                until = time.monotonic() + _WAIT_SECONDS
                error = message.error()
                partition, offset = _place(message)
                if error is None:
                    self._note(partition, offset, message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    waiting.discard(partition)
                    self._next[partition] = max(offset, self._next.get(partition, 0))

    def _note(self, partition: int, offset: int, message: Message) -> None:
        record = self.partitions.setdefault(partition, {})
        if offset < self._next.get(partition, 0):
            raise TruthFailed(f"{self.topic}[{partition}]: the broker gave offset {offset} twice")
        headers: Any = message.headers()
        record[offset] = record_digest(offset, message.key(), message.value(), headers, message.timestamp())
        self._next[partition] = offset + 1


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    return (-1 if partition is None else partition), (-1 if offset is None else offset)
