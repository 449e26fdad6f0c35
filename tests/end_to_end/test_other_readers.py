"""The archive is an open format: an independent implementation of Delta Lake reads the same events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import deltalake

from event_archive.archive.snapshot import read_snapshot
from event_archive.envelope import EVENT_SCHEMA

if TYPE_CHECKING:
    from tests.conftest import Project


def test_delta_rs_reads_the_same_events(project: Project) -> None:
    """Rows, columns, partition, properties, transactions and history."""
    project.configure(stream="commit_bytes: 5000")
    lines = [b'{"n": %d}' % n for n in range(3000)]
    project.write("a.jsonl", b"\n".join(lines) + b"\n")
    project.ingest()
    snapshot = read_snapshot(project.store)
    table = deltalake.DeltaTable(project.table)
    assert table.version() == snapshot.version > 3
    assert table.metadata().partition_columns == ["ingest_date"]
    assert table.metadata().configuration["delta.appendOnly"] == "true"
    assert table.transaction_version("event-archive:file:0") == len(lines)
    assert [entry["operation"] for entry in table.history()][-2:] == ["WRITE", "CREATE TABLE"]
    rows = table.to_pyarrow_table().sort_by("source_offset")
    assert set(rows.column_names) == set(EVENT_SCHEMA.names)
    assert rows["value"].to_pylist() == lines
    assert rows["source_offset"].to_pylist() == list(range(len(lines)))
    assert set(rows["source_id"].to_pylist()) == {"file:a.jsonl"}
    assert set(rows["ingest_date"].to_pylist()) == set(rows["ingested_at"].cast("date32").to_pylist())
    assert rows["commit_version"].to_pylist() == sorted(rows["commit_version"].to_pylist())


def test_delta_rs_prunes_by_the_statistics_that_we_write(project: Project) -> None:
    """A filter that the statistics get wrong would lose rows."""
    project.configure(stream="commit_bytes: 5000")
    project.write("a.jsonl", b"".join(b"%d\n" % n for n in range(3000)))
    project.ingest()
    table = deltalake.DeltaTable(project.table)
    for low in (0, 1, 1499, 2998, 2999, 3000):
        rows = table.to_pyarrow_table(filters=[("source_offset", ">=", low)], columns=["source_offset"])
        assert sorted(rows["source_offset"].to_pylist()) == list(range(low, 3000))
