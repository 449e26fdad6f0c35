"""How fast a day of small commits is compacted, in how much memory, and what readers gain.

What doesn't live here: what compaction does (`event_archive.compaction.days`).
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from benchmarks.measuring import Figure, event_archive, median
from event_archive import layout
from event_archive.archive.columns import column
from event_archive.archive.commit import Batch, Head, commit, create_table
from event_archive.archive.data_file import SOURCE_SCHEMA, DataFileWriter, with_commit
from event_archive.config import load_config
from event_archive.sources.kafka.positions import PartitionClaim, encode_claims, encode_source_id

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.storage.store import Store

EVENTS = 10_000_000
COMMITS = 1_440
PARTITIONS = 12
_DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
_START_MS = int(_DAY.timestamp() * 1000)
_QUERIES = (
    "select count(*) from archive.bench",
    "select count(*) from archive.bench where source_partition = 3 and source_offset between 1000 and 5000",
    "select payload->>'flight_id' as flight, count(*) from archive.bench group by 1 order by 2 desc limit 10",
)
_RUNS = 3


def a_day(folder: Path, scale: float) -> None:
    """10M events in 1,440 commits of 12 partitions; `scale` times the events."""
    events = int(EVENTS * scale)
    _make(folder, events)
    size = _stored_bytes(folder)
    print(
        f"compact: a day of {COMMITS:,} commits, {PARTITIONS} partitions, {events:,} events, {size / 1e6:,.0f} MB:"
    )
    before = [_asked(folder, query) for query in _QUERIES]
    replayed = event_archive("replay", "bench", "--to", "before", cwd=folder)
    figure = event_archive("compact", cwd=folder)
    again = event_archive("compact", cwd=folder)
    print(
        f"  {figure.seconds:5.1f} s, {events / figure.seconds:,.0f} events/s, {size / 1e6 / figure.seconds:,.0f} MB/s, "
        f"{figure.peak_mb:.0f} MB peak; once more, with nothing to do: {again.seconds:.2f} s"
    )
    for query, old in zip(_QUERIES, before, strict=True):
        new = _asked(folder, query)
        print(f"  {old.seconds:5.2f} s before, {new.seconds:5.2f} s after  {query}")
    new_replay = event_archive("replay", "bench", "--to", "after", cwd=folder)
    print(
        f"  {replayed.seconds:5.1f} s ({replayed.peak_mb:.0f} MB) before, {new_replay.seconds:5.1f} s "
        f"({new_replay.peak_mb:.0f} MB) after  replay to a folder"
    )


def _asked(folder: Path, query: str) -> Figure:
    return median([event_archive("sql", query, cwd=folder) for _ in range(_RUNS)])


def _stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "archive").rglob("*.parquet"))


def _make(folder: Path, events: int) -> None:
    """The archive of a topic as an ingest that follows it leaves it, a commit a minute."""
    (folder / "event_archive.yaml").write_text(
        "archive: archive\nwarehouse: warehouse\nstreams:\n  bench:\n"
        "    source: {type: kafka, brokers: 'localhost:1', topic: bench}\n"
    )
    table = load_config(folder / "event_archive.yaml").table("bench")
    head = create_table(table, description="")
    each = max(events // COMMITS // PARTITIONS, 1)
    generator = np.random.default_rng(1)
    for number in range(COMMITS):
        head = _append(table, head, number, each, generator)


def _append(table: Store, head: Head, number: int, each: int, generator: np.random.Generator) -> Head:
    source_id = encode_source_id("cluster", "bench")
    at = _DAY + number * dt.timedelta(minutes=1)
    rows = each * PARTITIONS
    offsets = np.tile(np.arange(number * each, (number + 1) * each, dtype=np.int64), PARTITIONS)
    within = np.sort(generator.integers(0, 60_000, (PARTITIONS, each)), axis=1).ravel()
    times = _START_MS + number * 60_000 + within
    flights = generator.integers(0, 5000, rows).tolist()
    people = generator.integers(0, 10**9, rows).tolist()
    values = [
        b'{"event_type":"seat_booked","flight_id":"FL%04d","seat":"%d%c","passenger_id":"p-%09d","booking_id":"b-%x","price_usd":%d.%02d,'
        b'"channel":"web"}'
        % (flight, flight % 40 + 1, 65 + person % 6, person, person * 7919, flight % 900 + 30, person % 100)
        for flight, person in zip(flights, people, strict=True)
    ]
    kinds = pa.DictionaryArray.from_arrays(
        column(pa.int32(), np.zeros(rows, np.int32)), pa.array(["create_time"])
    )
    table_rows = pa.table(
        {
            "source_id": pa.DictionaryArray.from_arrays(
                column(pa.int32(), np.zeros(rows, np.int32)), pa.array([source_id])
            ),
            "source_partition": column(pa.int32(), np.repeat(np.arange(PARTITIONS, dtype=np.int32), each)),
            "source_offset": column(pa.int64(), offsets),
            "event_time": column(pa.int64(), times * 1000).cast(pa.timestamp("us", tz="UTC")),
            "timestamp_ms": column(pa.int64(), times),
            "timestamp_type": kinds,
            "key": pa.array([b"FL%04d" % flight for flight in flights], pa.binary()),
            "value": pa.array(values, pa.binary()),
            "headers": pa.nulls(rows, SOURCE_SCHEMA.field("headers").type),
        },
        schema=SOURCE_SCHEMA,
    )
    version = head.version + 1
    writer = DataFileWriter(table, layout.data_file_name(at.date(), version, secrets.token_hex(16)))
    writer.write_row_group(with_commit(table_rows, version, at))
    first = number * each
    claims = [
        PartitionClaim(
            source_id, "topic-id", partition, first, first + each, np.array([[first, each]], np.int64)
        )
        for partition in range(PARTITIONS)
    ]
    batch = Batch(writer.finish(), sum(map(len, values)), encode_claims(claims), {"bench": version})
    return commit(table, head, batch, ingested_at=at)
