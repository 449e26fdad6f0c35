"""A small archive and a published warehouse, real files both, and a way to query them in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.sql import sandbox
from event_archive.sql.views import ENVELOPE_TYPES, quote_name, quote_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

QUERY_PROCESS = Path(__file__).parent / "query_process.py"


@dataclass(frozen=True)
class Place:
    """Where things are: a stream of two files, a warehouse, and a folder that nobody may read."""

    root: Path
    files: list[str]
    warehouse: Path
    secret: Path


@pytest.fixture(name="write_archive_file")
def the_writer_of_archive_files() -> Callable[[Path, Sequence[bytes | None]], None]:
    """Give the function that the fixtures here use."""
    return write_archive_file


def write_archive_file(path: Path, values: Sequence[bytes | None]) -> None:
    """Write a Parquet file with the columns of the envelope, one row per value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    connection.execute("create table events (value blob)")
    for value in values:
        connection.execute("insert into events values (?)", [value])
    known = {
        "source_id": "'file:a.jsonl'",
        "source_partition": "0",
        "source_offset": "rowid",
        "value": "value",
        "ingest_date": "date '2024-01-02'",
    }
    columns = ", ".join(
        f"{known.get(name, 'null')}::{kind} as {quote_name(name)}" for name, kind in ENVELOPE_TYPES.items()
    )
    # Written elsewhere and moved: COPY would take some characters of the path for something else.
    written = path.parent.parent / "written.parquet"
    connection.execute(
        f"copy (select {columns} from events order by rowid) to {quote_text(str(written))} (format parquet)"
    )
    connection.close()
    written.rename(path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Write an archive, a warehouse and a secret."""
    folder = tmp_path / "archive" / "bookings" / "ingest_date=2024-01-01"
    files = [folder / "one.parquet", folder / "two.parquet"]
    write_archive_file(files[0], [b'{"type": "booked", "seat": "12A"}', b"not json", None])
    write_archive_file(files[1], [b'{"type": "cancelled", "seat": "12A"}'])
    warehouse = tmp_path / "warehouse" / "current.duckdb"
    warehouse.parent.mkdir()
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create table bookings as select 1 as booking_id, '12A' as seat")
        connection.execute("create schema staging")
        connection.execute("create table staging.stg_bookings as select 'unseen' as note")
        connection.execute("create macro note() as 'unseen'")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "secret.csv").write_text("user,password\nroot,unseen\n")
    write_archive_file(secret / "unseen.parquet", [b"unseen"])
    return Place(tmp_path, [str(file) for file in files], warehouse, secret)


@pytest.fixture
def analyst(place: Place, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect as an analyst does."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    connection = sandbox.connect(
        {"bookings": place.files, "carts": []}, place.warehouse, temp_directory=temporary, threads=2
    )
    yield connection
    sandbox.close(connection)


@pytest.fixture
def query_process() -> Callable[..., subprocess.Popen[bytes]]:
    """Start a process that runs one query, as the command does; it says `ready` on standard error before."""

    def start(query: str, output_format: str, **settings: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(QUERY_PROCESS), output_format, query],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **settings},
        )

    return start
