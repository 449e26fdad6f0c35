"""An archive of a topic, made commit by commit on any day, as an ingest would have made it; and what it holds, row by row."""

from __future__ import annotations

import datetime as dt
import random
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.archive.commit import Batch, Head, commit, create_table
from event_archive.archive.data_file import SOURCE_SCHEMA, DataFileWriter, with_commit
from event_archive.archive.snapshot import read_snapshot
from event_archive.sources.kafka.positions import PartitionClaim, encode_claims, encode_source_id, runs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from event_archive.storage.store import Store

DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
SOURCE = encode_source_id("cluster", "events")


class TopicArchive:
    """A table that is appended to as if a topic were read."""

    def __init__(self, table: Store) -> None:
        self.table = table
        self._next: dict[int, int] = {}
        self._random = random.Random(7)
        snapshot = read_snapshot(table)
        self._head = (
            Head(snapshot.version, snapshot.chain_hash)
            if snapshot.version >= 0
            else create_table(table, description="")
        )

    def catch_up(self) -> None:
        """Goes on behind what others have committed."""
        snapshot = read_snapshot(self.table)
        self._head = Head(snapshot.version, snapshot.chain_hash)

    def append(
        self,
        counts: Mapping[int, int],
        *,
        at: dt.datetime = DAY,
        hole: int = 0,
        source_id: str = SOURCE,
        group_rows: int = 1000,
    ) -> int:
        """Commits so many events of each partition; every `hole`-th offset holds none. Gives the version."""
        parts, claims = [], []
        for partition, count in counts.items():
            first = self._next.get(partition, 0)
            offsets = np.arange(first, first + count + (count // hole if hole else 0), dtype=np.int64)
            if hole:
                offsets = offsets[offsets % (hole + 1) != hole][:count]
            after = int(offsets[-1]) + 1 if len(offsets) else first
            self._next[partition] = after
            parts.append(self._rows(source_id, partition, offsets))
            runs = runs_of(offsets)
            claims.append(PartitionClaim(source_id, "topic-id", partition, first, after, runs))
        rows = pa.concat_tables(parts).combine_chunks() if parts else SOURCE_SCHEMA.empty_table()
        version = self._head.version + 1
        file = None
        if rows.num_rows:
            writer = DataFileWriter(
                self.table, layout.data_file_name(at.date(), version, secrets.token_hex(16))
            )
            for start in range(0, rows.num_rows, group_rows):
                writer.write_row_group(with_commit(rows.slice(start, group_rows), version, at))
            file = writer.finish()
        batch = Batch(file, rows["value"].nbytes, encode_claims(claims), {"app": version})
        self._head = commit(self.table, self._head, batch, ingested_at=at)
        return version

    def _rows(self, source_id: str, partition: int, offsets: np.ndarray[Any, Any]) -> pa.Table:
        """Rows in which everything occurs that an event may have."""
        chance = self._random
        size = len(offsets)
        times = [chance.choice([None, 0, -5, 1_700_000_000_000 + chance.randrange(10**9)]) for _ in offsets]
        values = [
            chance.choice([None, b"", chance.randbytes(chance.randrange(60)), b'{"n":%d}' % n])
            for n in offsets.tolist()
        ]
        keys = [chance.choice([None, b"", b"k%d" % chance.randrange(9)]) for _ in offsets]
        headers = [
            chance.choice([None, [], [("a", b"1"), ("a", None)], [("", b"\xff"), ("g\u00fc", b"")]])
            for _ in offsets
        ]
        columns = {
            "source_id": pa.array([source_id] * size, pa.string()).dictionary_encode(),
            "source_partition": pa.array([partition] * size, pa.int32()),
            "source_offset": pa.array(offsets, pa.int64()),
            "event_time": pa.array([None if t is None else t * 1000 for t in times], pa.int64()).cast(
                pa.timestamp("us", tz="UTC")
            ),
            "timestamp_ms": pa.array(times, pa.int64()),
            "timestamp_type": pa.array(
                [None if t is None else chance.choice(["create_time", "log_append_time"]) for t in times],
                pa.string(),
            ).dictionary_encode(),
            "key": pa.array(keys, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "headers": pa.array(
                [None if h is None else [{"key": k, "value": v} for k, v in h] for h in headers],
                SOURCE_SCHEMA.field("headers").type,
            ),
        }
        return pa.table(columns).cast(SOURCE_SCHEMA)


def a_day_of_commits(
    table: Store, *, commits: int = 20, partitions: int = 5, day: dt.datetime = DAY, events: int = 12
) -> TopicArchive:
    """An archive of one day: each commit brings some events of some partitions."""
    archive = TopicArchive(table)
    chance = random.Random(commits)
    for number in range(commits):
        counts = {p: chance.randrange(events) for p in range(partitions) if chance.random() < 0.8}
        archive.append(counts, at=day + number * MINUTE, hole=chance.choice([0, 3]))
    return archive


def rows_of(paths: Iterable[Path | str]) -> list[tuple[Any, ...]]:
    """The rows of files, in their order, with all columns, as numbers and bytes."""
    found: list[tuple[Any, ...]] = []
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123 - a path or text
            table = pq.ParquetFile(file).read()
        for name in ("event_time", "ingested_at", "ingest_date"):
            index = table.schema.get_field_index(name)
            kind = pa.int32() if name == "ingest_date" else pa.int64()
            table = table.set_column(index, name, table[name].cast(kind))
        found += [tuple(map(_plain, row.values())) for row in table.to_pylist()]
    return found


def _plain(value: Any) -> Any:
    return tuple(tuple(item.values()) for item in value) if isinstance(value, list) else value


def all_rows(table: Store) -> list[tuple[Any, ...]]:
    """Every row of the table as it is now, sorted by where it comes from."""
    return sorted(rows_of(read_snapshot(table).file_paths()), key=lambda row: row[:3])


def is_in_order(rows: Sequence[tuple[Any, ...]]) -> bool:
    """Whether rows are sorted by source, partition and offset."""
    places = [(row[0].encode(), row[1], row[2]) for row in rows]
    return places == sorted(places)
