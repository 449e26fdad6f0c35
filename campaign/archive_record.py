"""What an archive holds by the word of its files, and how that differs from what it should hold.

As in `truth`, nothing of `event_archive` is imported: the archive is read as any Delta table is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder

from campaign.truth import CREATE_TIME, Record, TruthFailed, partition_digest, record_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RECORDS_A_READ = 5000
_TIMESTAMP_TYPES = {None: 0, "create_time": CREATE_TIME, "log_append_time": 2}
_NOT_GIVEN = -(2**63)


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
