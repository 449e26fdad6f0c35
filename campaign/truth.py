"""What a topic holds by the word of an independent consumer, what an archive holds by the word of its files, and how they differ.

Both are a SHA-256 per record over offset, key, value, headers and timestamp. Nothing of `event_archive` is imported here,
or this would be no second opinion: the archive is read as any Delta table is.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from deltalake import DeltaTable, QueryBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Record = dict[int, bytes]
"""Digest of each record of one partition, by offset."""

Headers = list[tuple[str, bytes | None]] | None

_RECORDS_A_READ = 5000
CREATE_TIME = 1  # as librdkafka numbers the types of timestamps
_TIMESTAMP_TYPES = {None: 0, "create_time": CREATE_TIME, "log_append_time": 2}
_NOT_GIVEN = -(2**63)
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


@dataclass(slots=True)
class ArchiveRecord:
    """What an archive's table holds."""

    sources: dict[str, dict[int, Record]] = field(default_factory=dict)
    """Digests by source id, partition and offset."""
    doubled: list[str] = field(default_factory=list)
    """Records that are there more than once."""
    rows: int = 0
    versions: int = 0


def read_archive(table: Path) -> ArchiveRecord:
    """Reads the rows of a table, whose files and their rows `deltalake` must see as the log has them.

    Raises:
        TruthFailed: `deltalake`, the log and the files don't agree.
    """
    found = ArchiveRecord()
    files, found.versions = logged_files(table)
    if not found.versions:
        return found
    delta = DeltaTable(str(table))
    if sorted(delta.file_uris()) != sorted(str(table / name) for name in files):
        raise TruthFailed(f"{table}: deltalake lists other files than the log names")
    if delta.version() != found.versions - 1:
        raise TruthFailed(f"{table}: deltalake sees version {delta.version()} of {found.versions - 1}")
    for uri in delta.file_uris():
        path = Path(uri)
        if not path.is_file():
            raise TruthFailed(f"{table}: {path.name} is not there, but the log names it")
        with path.open("rb") as file:  # by path pyarrow would read the folder's name as a column
            for batch in pq.ParquetFile(file).iter_batches(_RECORDS_A_READ, columns=_COLUMNS):
                for row in batch.to_pylist():
                    _note_row(found, row)
    counted = sum(json.loads(add["stats"])["numRecords"] for add in files.values())
    if counted != found.rows:
        raise TruthFailed(f"{table}: the log counts {counted} rows, the files hold {found.rows}")
    _ask_deltalake(delta, found)
    return found


def _ask_deltalake(delta: DeltaTable, found: ArchiveRecord) -> None:
    """Its own engine must count the same events."""
    reader: Any = QueryBuilder().register("events", delta).execute(_COUNTS)
    rows = pa.table(reader.read_all()).to_pylist()
    counted = {(row["source_id"], row["source_partition"]): (row["events"], row["offsets"]) for row in rows}
    held = {
        (source_id, partition): (len(record), len(record))
        for source_id, partitions in found.sources.items()
        for partition, record in partitions.items()
    }
    if not found.doubled and counted != held:
        raise TruthFailed(f"{delta.table_uri}: deltalake counts {counted}, the files hold {held}")


_COUNTS = """
    select source_id, source_partition, count(*) as events, count(distinct source_offset) as offsets
    from events
    group by source_id, source_partition
"""


_COLUMNS = [
    "source_id",
    "source_partition",
    "source_offset",
    "timestamp_ms",
    "timestamp_type",
    "key",
    "value",
    "headers",
]


def _note_row(found: ArchiveRecord, row: dict[str, Any]) -> None:
    headers = row["headers"]
    if headers is not None:
        headers = [(header["key"], header["value"]) for header in headers]
    milliseconds = row["timestamp_ms"]
    kind = _TIMESTAMP_TYPES[row["timestamp_type"]]
    if milliseconds is None:  # which is only right where the record has no timestamp at all
        milliseconds = -1 if kind == 0 else _NOT_GIVEN
    timestamp = (kind, milliseconds)
    offset = row["source_offset"]
    record = found.sources.setdefault(row["source_id"], {}).setdefault(row["source_partition"], {})
    if offset in record:
        found.doubled.append(f"{row['source_id']}[{row['source_partition']}] offset {offset}")
    record[offset] = record_digest(offset, row["key"], row["value"], headers, timestamp)
    found.rows += 1


def logged_files(table: Path) -> tuple[dict[str, Any], int]:
    """The active files by the log's own word, and how many entries it has; nothing is read but the log."""
    files: dict[str, Any] = {}
    entries = sorted((table / "_delta_log").glob("[0-9]*.json"))
    for entry in entries:
        for line in entry.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files[action["add"]["path"]] = action["add"]
            if "remove" in action:
                files.pop(action["remove"]["path"], None)
    return files, len(entries)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An archive held against what it should hold."""

    events: int
    """Records that should be there."""
    partitions: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    changed: tuple[str, ...]
    """There, but not as they were given."""
    strange: tuple[str, ...]
    """There, but never given."""
    digests_agree: bool
    """Whether the SHA-256 of each partition is the same on both sides."""

    @property
    def is_same(self) -> bool:
        """Whether the archive holds each record once, as it was given, and nothing else."""
        return self.digests_agree and not (self.lost or self.doubled or self.changed or self.strange)

    def __str__(self) -> str:
        """What differs."""
        parts = [f"{self.events} events in {self.partitions} partitions"]
        for name in ("lost", "doubled", "changed", "strange"):
            places = getattr(self, name)
            parts.append(f"{len(places)} {name}" + (f" ({', '.join(places[:5])}, …)" if places else ""))
        return ", ".join(parts)


def compare(expected: Mapping[str, Mapping[int, Record]], archive: ArchiveRecord) -> Comparison:
    """Holds an archive against what it should hold, both by source id and partition."""
    lost: list[str] = []
    changed: list[str] = []
    strange: list[str] = []
    places = {
        (s, p) for side in (expected, archive.sources) for s, partitions in side.items() for p in partitions
    }
    agree = True
    for source_id, partition in sorted(places):
        wanted = expected.get(source_id, {}).get(partition, {})
        given = archive.sources.get(source_id, {}).get(partition, {})
        place = f"{source_id}[{partition}] offset "
        lost += _named(place, wanted.keys() - given.keys())
        strange += _named(place, given.keys() - wanted.keys())
        changed += _named(place, (o for o in wanted.keys() & given.keys() if wanted[o] != given[o]))
        agree &= partition_digest(wanted) == partition_digest(given)
    return Comparison(
        events=sum(len(record) for partitions in expected.values() for record in partitions.values()),
        partitions=len(places),
        lost=tuple(lost),
        doubled=tuple(archive.doubled),
        changed=tuple(changed),
        strange=tuple(strange),
        digests_agree=agree,
    )


def _named(place: str, offsets: Iterable[int]) -> list[str]:
    return [f"{place}{offset}" for offset in sorted(offsets)]
