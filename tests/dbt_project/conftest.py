"""A small archive from any lines, the real dbt over it, and comparing what it built.

The archive is made here by hand, in the columns of the envelope, so that a test decides what each commit holds; what ingest writes is
tested with `event_archive`.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from event_archive.envelope import EVENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).parents[2]
DBT_PROJECT = REPOSITORY / "dbt_project"
STREAMS = ("bookings", "cart_events")

# Parsing takes dbt longer than running: the project as it is gets parsed once. What is parsed names the build's database, and that
# is `current` in all tests.
_PARSED: list[Any] = []

DEMO_EVENTS = 20_000
DEMO_SEED = 7


@dataclass
class SmallArchive:
    """Commits of the two streams as Parquet files, one each, and snapshots of them."""

    folder: Path
    commits: dict[str, list[Path]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})
    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))

    def commit(self, stream: str, values: Sequence[bytes | dict[str, Any] | None]) -> None:
        """Archives events; a dictionary is written as JSON."""
        rows = [json.dumps(value).encode() if isinstance(value, dict) else value for value in values]
        version = len(self.commits[stream])
        first = self.events[stream]
        now = datetime(2024, 1, 1, tzinfo=UTC)
        columns: dict[str, Any] = {
            "source_id": ["file:events.jsonl"] * len(rows),
            "source_partition": [0] * len(rows),
            "source_offset": range(first, first + len(rows)),
            "value": rows,
            "ingested_at": [now] * len(rows),
            "ingest_date": [now.date()] * len(rows),
            "commit_version": [version] * len(rows),
        }
        table = pa.table(
            [pa.array(columns.get(column.name, [None] * len(rows)), column.type) for column in EVENT_SCHEMA],
            schema=EVENT_SCHEMA,
        )
        path = self.folder / f"{stream}-{version}.parquet"
        self.folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        self.commits[stream].append(path)
        self.events[stream] += len(rows)

    def snapshot(self) -> Path:
        """Pins what has been committed so far; returns the file that says so."""
        versions = [len(files) for files in self.commits.values()]
        path = self.folder / f"snapshot-{'-'.join(map(str, versions))}.json"
        streams = {
            stream: {"version": len(files) - 1, "files": [str(file) for file in files]}
            for stream, files in self.commits.items()
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"streams": streams}))
        return path


@dataclass(frozen=True)
class Warehouse:
    """A build file and the dbt project that fills it."""

    folder: Path
    project: Path = DBT_PROJECT

    @property
    def file(self) -> Path:
        """The DuckDB file."""
        return self.folder / "current.duckdb"

    def dbt(self, *arguments: str, snapshot: Path | None) -> list[str]:
        """Runs dbt in this process.

        Args:
            arguments: Of the command line of dbt.
            snapshot: What it sees of the archive; None: there is none.

        Returns:
            A line for each node that did not succeed.
        """
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # here, as it takes two seconds
        from dbt.cli.main import dbtRunner

        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "EVENT_ARCHIVE_BUILD_FILE": str(self.file),
            "EVENT_ARCHIVE_SNAPSHOT": str(snapshot or ""),
            "EVENT_ARCHIVE_THREADS": "2",
            "EVENT_ARCHIVE_AT_ONCE": "2",
        }
        quiet = ["--quiet", "--log-level-file", "none"]
        where = ["--project-dir", str(self.project), "--profiles-dir", str(self.project)]
        where += ["--target-path", str(self.folder / "target")]
        with _environment(environment):
            manifest = None
            if self.project == DBT_PROJECT and arguments[0] != "parse":
                quiet.append("--no-write-json")
                if not _PARSED:
                    _PARSED.append(dbtRunner().invoke([*quiet, "parse", *where]).result)
                manifest = _PARSED[0].deepcopy()
            result = dbtRunner(manifest=manifest).invoke([*quiet, *arguments, *where])
            DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
        if result.exception is not None:
            return [str(result.exception)]
        outcomes = getattr(result.result, "results", [])
        return [
            f"{outcome.node.name}: {outcome.status}: {outcome.message}"
            for outcome in outcomes
            if outcome.status not in ("success", "pass", "warn", "no-op")
        ]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query over what has been built."""
        with duckdb.connect(str(self.file), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.execute(query).fetchall()

    def relations(self) -> list[str]:
        """All tables and views that have been built, with their schemas."""
        return [
            name
            for (name,) in self.rows(
                "select table_schema || '.' || table_name from information_schema.tables order by 1"
            )
        ]


def copied_project(folder: Path) -> Path:
    """Copies the dbt project into a folder, so that a test may change it."""
    project = folder / "dbt_project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    return project


def differences(one: Warehouse, other: Warehouse, relations: Sequence[str] = ()) -> dict[str, int]:
    """Compares two builds, row for row.

    Args:
        one: A build.
        other: Another one.
        relations: What to compare; everything that there is, which must be the same in both, if it is empty.

    Returns:
        For each relation that differs, how many rows are in one of them only (a row that is twice counts twice).
    """
    assert relations or one.relations() == other.relations()
    found = {}
    with duckdb.connect() as connection:
        connection.execute(f"attach '{one.file}' as one (read_only)")
        connection.execute(f"attach '{other.file}' as other (read_only)")
        for name in relations or one.relations():
            both = (
                f"((from one.{name}) except all (from other.{name})) "
                f"union all ((from other.{name}) except all (from one.{name}))"
            )
            row = connection.execute(f"select count(*) from ({both})").fetchone()
            assert row is not None
            if row[0]:
                found[name] = row[0]
    return found


@dataclass(frozen=True)
class Demo:
    """What the demo's services said, line by line, and the truth about it."""

    lines: dict[str, list[bytes]]
    truth: Path

    def true(self, name: str) -> list[dict[str, Any]]:
        """One of the files of truth, by its name without `.jsonl`."""
        return [json.loads(line) for line in (self.truth / f"{name}.jsonl").read_text().splitlines()]

    def counts(self, stream: str) -> dict[str, int]:
        """What the generator has counted of a stream."""
        counts: dict[str, int] = json.loads((self.truth / "summary.json").read_text())["streams"][stream]
        return counts

    def disordered(self, stream: str) -> list[bytes]:
        """The lines in an order in which each may have been overtaken by a quarter of them."""
        lines = self.lines[stream]
        rng = random.Random(1)
        places = sorted((place + rng.random() * len(lines) / 4, place) for place in range(len(lines)))
        return [lines[place] for _, place in places]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A demo of some thousand events, as its services wrote it."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "demo.generate", "--events", str(DEMO_EVENTS), "--seed", str(DEMO_SEED)]
    subprocess.run(
        [*command, "--landing", str(folder / "landing"), "--truth", str(folder / "truth")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    lines = {
        stream: [
            line
            for path in sorted((folder / "landing" / stream).rglob("*"))
            if path.is_file()
            for line in _decompressed(path).split(b"\n")
            if line.strip(b"\r")
        ]
        for stream in STREAMS
    }
    return Demo(lines, folder / "truth")


@pytest.fixture(scope="session")
def demo_archive(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> SmallArchive:
    """The demo's lines in three commits each, disordered."""
    archive = SmallArchive(tmp_path_factory.mktemp("archive"))
    for stream in STREAMS:
        lines = demo.disordered(stream)
        third = len(lines) // 3
        for part in (lines[:third], lines[third : 2 * third], lines[2 * third :]):
            archive.commit(stream, part)
    return archive


@pytest.fixture(scope="session")
def demo_warehouse(demo_archive: SmallArchive, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The demo, built in one go; every test that dbt itself runs has passed."""
    warehouse = Warehouse(tmp_path_factory.mktemp("full"))
    assert warehouse.dbt("build", snapshot=demo_archive.snapshot()) == []
    return warehouse


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _decompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data
