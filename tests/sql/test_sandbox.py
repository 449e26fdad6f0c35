"""The connection's own locks: the second and third, tried with the first one (the check of statements) left out."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest

from event_archive.errors import ArchiveDamaged, StorageError
from event_archive.sql import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sql.conftest import Place

# {secret}, {file}, {folder} (that of the file), {root} and {warehouse} are real paths.
REFUSED = [
    "from read_text('{secret}/secret.csv')",
    "from read_blob('{secret}/secret.csv')",
    "from read_csv('{secret}/secret.csv')",
    "from read_json('{secret}/secret.csv')",
    "from read_parquet('{secret}/unseen.parquet')",
    "from read_parquet('{folder}/*.parquet')",
    "from parquet_metadata('{secret}/unseen.parquet')",
    "from parquet_schema('{secret}/unseen.parquet')",
    "from glob('{root}/*')",
    "from glob('{folder}/*')",
    "from sniff_csv('{secret}/secret.csv')",
    "from '{secret}/secret.csv'",
    "from '{secret}/unseen.parquet'",
    "from 'file://{secret}/secret.csv'",
    "from read_text('file://{secret}/secret.csv')",
    "from read_text('{folder}/../../../secret/secret.csv')",
    "from read_text('/proc/self/environ')",
    "from read_text('/dev/stdin')",
    "from read_csv('http://localhost:1/x.csv')",
    "from read_parquet('s3://bucket/x.parquet')",
    "from query('from read_text(''{secret}/secret.csv'')')",
    "select getenv('HOME')",
    "copy (select 1) to '{root}/out.csv'",
    "copy (select 1) to '{folder}/out.parquet'",
    "copy (select 1) to '{root}' (partition_by (a))",
    "copy (select 1) to '{file}' (format parquet)",
    "copy (select 1) to '/dev/stdout'",
    "export database '{root}/export'",
    "import database '{secret}'",
    "attach '{root}/new.duckdb' as n",
    "attach '{secret}/secret.csv' as n",
    "attach '{warehouse}' as n",
    "install httpfs",
    "load httpfs",
    "load '{root}/x.duckdb_extension'",
    "set threads = 1",
    "set enable_external_access = true",
    "set allowed_directories = ['/']",
    "set temp_directory = '{root}'",
    "set home_directory = '{root}'",
    "set python_enable_replacements = true",
    "set lock_configuration = false",
    "reset lock_configuration",
    "pragma threads = 1",
    "create persistent secret s (type http)",
    "insert into published_warehouse.main.bookings values (2, '1A')",
    "create table published_warehouse.main.t as select 1",
    "drop table published_warehouse.main.bookings",
    "from python_variable",
]

# What the connection alone does not refuse: the reason why statements are checked first.
NOT_REFUSED_ALONE = [
    "from read_parquet('{file}')",
    "from parquet_metadata('{file}')",
    "attach '{file}' as n",
    "from published_warehouse.staging.stg_bookings",
    "select published_warehouse.main.note()",
    "select current_setting('temp_directory')",
    "from duckdb_settings()",
    "from duckdb_views()",
    "from query('select 1')",
    "attach ':memory:' as n",
    "create table t as select 1",
    "prepare p as select 1",
    "explain analyze create table t as select 1",
    "checkpoint",
    "drop view bookings",
    "detach published_warehouse",
]


def fingerprint(root: Path) -> dict[str, str]:
    """Give the digest of every file below a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def filled(statement: str, place: Place) -> str:
    """Put the real paths into a statement."""
    return statement.format(
        secret=place.secret,
        file=place.files[0],
        folder=Path(place.files[0]).parent,
        root=place.root,
        warehouse=place.warehouse,
    )


def test_streams_and_marts_are_shown_and_nothing_else(analyst: duckdb.DuckDBPyConnection) -> None:
    """The catalog lists exactly what can be read; staging is not even named."""
    shown = analyst.execute(
        "select table_schema, table_name from information_schema.tables order by all"
    ).fetchall()
    assert shown == [("archive", "bookings"), ("archive", "carts"), ("main", "bookings")]
    assert analyst.execute("select booking_id, seat from bookings").fetchall() == [(1, "12A")]
    rows = analyst.execute(
        "select payload->>'type', value from archive.bookings order by all nulls last"
    ).fetchall()
    assert [kind for kind, _ in rows] == ["booked", "cancelled", None, None]
    assert analyst.execute("select count(*), count(payload) from archive.carts").fetchall() == [(0, 0)]


@pytest.mark.parametrize("statement", REFUSED)
def test_the_connection_alone_refuses_to_leave_the_sandbox(
    statement: str, place: Place, analyst: duckdb.DuckDBPyConnection
) -> None:
    """Nothing outside can be read, nothing on disk changes, no lock can be opened."""
    python_variable = pa.table({"a": [1]})  # what DuckDB could take for a table
    assert python_variable.num_rows == 1
    before = fingerprint(place.root)
    with pytest.raises(duckdb.Error):
        analyst.execute(filled(statement, place)).fetchall()
    assert fingerprint(place.root) == before
    assert analyst.execute("select count(*) from archive.bookings").fetchall() == [(4,)]


@pytest.mark.parametrize("statement", NOT_REFUSED_ALONE)
def test_what_the_connection_alone_does_not_refuse_leaves_nothing_behind(
    statement: str, place: Place, analyst: duckdb.DuckDBPyConnection
) -> None:
    """A list to know, and to shorten when a newer DuckDB can refuse more."""
    before = fingerprint(place.root)
    analyst.execute(filled(statement, place)).fetchall()
    assert fingerprint(place.root) == before


OVERWRITE = "copy (select 1) to '{file}' (use_tmp_file false, format csv)"


def test_the_one_hole_of_the_connection_is_an_overwrite_of_a_file_that_it_reads(
    place: Place, analyst: duckdb.DuckDBPyConnection
) -> None:
    """Why the kernel is asked too: DuckDB's list of allowed paths allows writing as well."""
    before = fingerprint(place.root)
    analyst.execute(filled(OVERWRITE, place))
    changed = {name for name, digest in fingerprint(place.root).items() if before.get(name) != digest}
    assert changed == {str(Path(place.files[0]).relative_to(place.root))}


LOCKED = """
import sys
from pathlib import Path
import duckdb
from event_archive.sql import limits, sandbox
if not limits.forbid_writes.__module__ or sys.platform != "linux":
    sys.exit(77)
connection = sandbox.connect(
    {"bookings": [sys.argv[1]]}, Path(sys.argv[2]), temp_directory=Path(sys.argv[3]), memory_limit="100MB", lock_process=True
)
assert connection.execute("select count(*) from archive.bookings").fetchall() == [(3,)]
assert connection.execute("select count(*) from bookings").fetchall() == [(1,)]
spilling = "select count(*) from (select distinct range as n from range(5_000_000))"
assert connection.execute(spilling).fetchall() == [(5_000_000,)]
try:
    connection.execute(sys.argv[4])
except duckdb.IOException as error:
    print("refused:", error)
try:
    Path(sys.argv[1]).unlink()
except OSError as error:
    print("refused:", error)
sandbox.close(connection)
"""


def landlock_is_here() -> bool:
    """Ask the kernel, in a process of its own, since the answer locks it."""
    question = "import sys, tempfile, pathlib; from event_archive.sql.limits import forbid_writes; "
    question += "sys.exit(0 if forbid_writes(pathlib.Path(tempfile.mkdtemp())) else 1)"
    return subprocess.run([sys.executable, "-c", question], check=False).returncode == 0


@pytest.mark.skipif(not landlock_is_here(), reason="this kernel has no Landlock")
def test_a_locked_process_overwrites_nothing_even_where_duckdb_would(place: Place) -> None:
    """The kernel closes the hole; spilling still works, and its folder is removed."""
    before = fingerprint(place.root)
    temporary = place.root / "temporary"
    temporary.mkdir()
    arguments = [place.files[0], str(place.warehouse), str(temporary), filled(OVERWRITE, place)]
    ended = subprocess.run(
        [sys.executable, "-c", LOCKED, *arguments], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("refused:") == 2
    assert fingerprint(place.root) == before
    assert list(temporary.iterdir()) == []


def test_the_private_folder_goes_with_the_connection(place: Place) -> None:
    """Nothing that was spilled stays."""
    connection = sandbox.connect({}, None, temp_directory=place.secret)
    assert len(list(place.secret.glob("event-archive-sql-*"))) == 1
    sandbox.close(connection)
    assert list(place.secret.glob("event-archive-sql-*")) == []


def test_what_a_killed_process_has_spilled_is_removed_by_the_next(
    query_process: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A folder is removed if no process holds its lock, and only then."""
    endless = "select count(*) from range(1000000000) a, range(1000000000) b where hash(a.range, b.range) = 1"
    living = query_process(endless, "csv", TEMPORARY=str(tmp_path))
    killed = query_process(endless, "csv", TEMPORARY=str(tmp_path))
    for process in (living, killed):
        assert process.stderr is not None
        assert process.stderr.readline() == b"ready\n"
    killed.kill()
    killed.wait()
    folders = set(tmp_path.iterdir())
    assert len(folders) == 2
    long_ago = time.time() - 3600
    for folder in folders:
        os.utime(folder, (long_ago, long_ago))
    sandbox.close(sandbox.connect({}, None, temp_directory=tmp_path))
    assert len(set(tmp_path.iterdir()) & folders) == 1
    living.kill()
    for process in (living, killed):
        process.communicate()


def test_spilling_stops_at_its_limit(tmp_path: Path) -> None:
    """A query larger than memory and disk limit together ends with an error, before it has filled the disk."""
    connection = sandbox.connect(
        {}, None, memory_limit="100MB", threads=2, temp_directory=tmp_path, max_temp_directory_size="100MB"
    )
    with pytest.raises(duckdb.OutOfMemoryException):
        connection.sql("select * from range(100_000_000) order by hash(range)").to_arrow_reader(
            1000
        ).read_all()
    sandbox.close(connection)


def test_a_damaged_file_or_warehouse_is_named(place: Place) -> None:
    """The sentence says which stream or file, and what to do."""
    Path(place.files[0]).write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(ArchiveDamaged, match=r"bookings.*event-archive verify bookings"):
        sandbox.connect({"bookings": place.files}, None, temp_directory=place.root)
    place.warehouse.write_bytes(b"no database")
    with pytest.raises(StorageError, match=r"current\.duckdb"):
        sandbox.connect({}, place.warehouse, temp_directory=place.root)
    with pytest.raises(StorageError, match="no_such_folder"):
        sandbox.connect({}, None, temp_directory=place.root / "no_such_folder")
    assert list(place.root.rglob("event-archive-sql-*")) == []


def test_marts_are_read_through_the_link_of_the_published_build(place: Place) -> None:
    """The link is followed once: a query sees one build, whatever is published meanwhile."""
    link = place.root / "published.duckdb"
    link.symlink_to(place.warehouse)
    connection = sandbox.connect({}, link)
    other = place.root / "other.duckdb"
    with duckdb.connect(str(other)) as builder:
        builder.execute("create table other as select 1")
    link.unlink()
    link.symlink_to(other)
    assert connection.execute("select count(*) from bookings").fetchall() == [(1,)]
    sandbox.close(connection)


def test_awkward_names_are_shown_as_they_are(
    tmp_path: Path, write_archive_file: Callable[[Path, list[bytes]], None]
) -> None:
    """Quotes and brackets in the paths of archive, warehouse and temporary folder, and in the names of marts."""
    root = tmp_path / 'it\'s [a] "folder" *'
    root.mkdir()
    warehouse = root / "ware[h]ouse's.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute('create table "odd ""name"" " as select 1 as "select"')
    file = root / "ingest_date=2024-01-01" / "a[1]?.parquet"
    sibling = root / "ingest_date=2024-01-01" / "a1x.parquet"
    write_archive_file(file, [b"1"])
    write_archive_file(sibling, [b"1", b"2"])
    connection = sandbox.connect({"odd": [str(file)]}, warehouse, temp_directory=root)
    assert connection.sql(sandbox.check(connection, 'select "select" from "odd ""name"" "')).fetchall() == [
        (1,)
    ]
    assert connection.sql(sandbox.check(connection, "select count(*) from archive.odd")).fetchall() == [(1,)]
    sandbox.close(connection)


def test_ten_thousand_files_are_no_hindrance(place: Place) -> None:
    """A stream that was never compacted is still queried, through one statement."""
    folder = Path(place.files[0]).parent
    files = []
    for number in range(2000):
        path = folder / f"{number}.parquet"
        path.hardlink_to(place.files[0])
        files.append(str(path))
    connection = sandbox.connect({"bookings": files}, None)
    assert connection.execute("select count(*) from archive.bookings").fetchall() == [(6000,)]
    sandbox.close(connection)
