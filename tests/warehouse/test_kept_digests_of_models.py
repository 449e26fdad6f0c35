"""The digests of the project's own marts are kept up from what dbt's macros really note."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.warehouse import MartRecord
from event_archive.warehouse.digest import RowSums, row_sums, table_digest
from event_archive.warehouse.kept_digests import digest_marts
from event_archive.warehouse.record_tables import write_marts
from tests.dbt_project.conftest import STREAMS, SmallArchive, Warehouse, demo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dbt_project.conftest import Demo

__all__ = ["demo"]


def digests(file: Path) -> dict[str, str]:
    """Digest the marts of a build and record it, as publishing does."""
    with closing(duckdb.connect(str(file))) as connection:
        connection.execute("set timezone = 'UTC'")
        models = connection.execute("select model from meta.models").fetchall()
        connection.execute("create or replace table meta.plain_views as select 'cart_events' as view")
        kept = digest_marts(connection, {model: "the same code" for (model,) in models})
        records = [
            MartRecord(one.mart, one.sums.rows, one.digest, one.level, one.key, (), one.code_hash)
            for one in kept
        ]
        write_marts(connection, records, kept)
        for record in records:
            assert record.digest == table_digest(connection, "main", record.mart).digest, record.mart
        return {record.mart: record.digest for record in records}


@pytest.mark.slow
def test_no_mart_is_read_whole_after_an_incremental_run(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is of event, entity or day level, and the notes of its run are where the digests look for them."""
    archive = SmallArchive(tmp_path / "archive")
    for stream in STREAMS:
        archive.commit(stream, demo.lines[stream][:2000])
    warehouse = Warehouse(tmp_path / "warehouse")
    assert warehouse.dbt("run", snapshot=archive.snapshot()) == []
    before = digests(warehouse.file)
    for stream in STREAMS:
        archive.commit(stream, demo.lines[stream][2000:2100])
    assert warehouse.dbt("run", snapshot=archive.snapshot()) == []
    read: list[tuple[str, str]] = []

    def noting(
        connection: duckdb.DuckDBPyConnection, relation: str, columns: dict[str, str], condition: str = "true"
    ) -> RowSums:
        read.append((relation, condition))
        return row_sums(connection, relation, columns, condition)

    monkeypatch.setattr("event_archive.warehouse.kept_digests.row_sums", noting)
    after = digests(warehouse.file)
    assert [relation for relation, condition in read if condition == "true"] == []
    assert len(after) == len(before) >= 9
    assert {mart for mart in after if after[mart] != before[mart]} >= {"bookings", "carts", "cart_events"}
