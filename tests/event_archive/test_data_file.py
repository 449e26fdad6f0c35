"""The bytes of a data file depend on its rows and row groups alone, so that it can be made again."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa

from event_archive.archive.data_file import SOURCE_SCHEMA, DataFileWriter, with_commit
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from pathlib import Path

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def rows(known: list[str], ids: list[int], *, pieces: int = 1) -> pa.Table:
    """Rows of these sources, of those that the reader knew, in so many chunks."""
    count = len(ids)
    given = {
        "source_id": pa.DictionaryArray.from_arrays(pa.array(ids, pa.int32()), pa.array(known)),
        "source_partition": pa.array([0] * count, pa.int32()),
        "source_offset": pa.array(range(count), pa.int64()),
        "value": pa.array([b"x" * n for n in range(count)]),
    }
    columns = [given.get(field.name, pa.nulls(count, field.type)) for field in SOURCE_SCHEMA]
    table = pa.table(columns, schema=SOURCE_SCHEMA)
    step = -(-count // pieces)
    return pa.concat_tables([table.slice(first, step) for first in range(0, count, step)])


def sha256(folder: Path, table: pa.Table) -> str:
    """Of a file with these rows."""
    writer = DataFileWriter(
        FolderStore(folder), f"ingest_date=2026-01-31/commit-00000000000000000001-{uuid.uuid4().hex}.parquet"
    )
    writer.write_row_group(with_commit(table, 1, NOON))
    return writer.finish().sha256


def test_how_rows_were_read_does_not_show_in_the_file(tmp_path: Path) -> None:
    """Chunks, sources that were known and have no row, and their order make no difference; rows do."""
    ids = [0] * 3000 + [1] * 2000
    whole = sha256(tmp_path, rows(["a", "b"], ids))
    assert sha256(tmp_path, rows(["a", "b"], ids, pieces=7)) == whole
    assert sha256(tmp_path, rows(["b", "c", "a"], [2] * 3000 + [0] * 2000, pieces=2)) == whole
    assert sha256(tmp_path, rows(["a", "c"], ids)) != whole
    one = sha256(tmp_path, rows(["a"], [0] * 100))
    assert sha256(tmp_path, rows(["b", "a"], [1] * 100)) == one
