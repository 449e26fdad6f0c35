"""The archive is an open format: other engines find in it, in every state that it can be in, the very rows that we do."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.kafka.jars import locked
from event_archive.archive.snapshot import read_snapshot
from event_archive.storage.folder import FolderStore
from tests.readers.engines import DOCUMENT, ENGINES, MIDDLE, ROWS, summary
from tests.readers.environments import HERE, OTHERS, OURS, EngineUnavailable, Environment, environment
from tests.readers.tables import ROOT, STATES, STREAMS, make_states

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of each state; made once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "readers"
    with locked(folder):
        if not (folder / "complete").exists():
            make_states(folder)
            (folder / "complete").touch()
    return folder


def tables(states: Path) -> dict[str, Path]:
    """All tables by state and stream."""
    return {
        f"{state}/{stream}": states / state / "archive" / stream for state in STATES for stream in STREAMS
    }


def environment_or_skip(engine: str) -> Environment:
    """Skips where an engine can't be had; fails there in CI, where it must."""
    try:
        return environment(engine)
    except EngineUnavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no {engine} in CI: {reason}")
        pytest.skip(f"no {engine}: {reason}")


def our_rows(table: Path) -> list[tuple[Any, ...]]:
    """All rows as we read them: the files that our own log names, as Parquet."""
    columns = ROWS.format(event_time="event_time").split(", ")
    rows: list[tuple[Any, ...]] = []
    for path in read_snapshot(FolderStore(table)).file_paths():
        with Path(path).open("rb") as file:
            events = pq.ParquetFile(file).read(columns=columns)
        at = events.schema.get_field_index("event_time")
        events = events.set_column(at, "event_time", events["event_time"].cast(pa.int64()))
        rows += zip(*(events[column].to_pylist() for column in columns), strict=True)
    return rows


def our_summary(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """What an engine must find."""
    offsets = defaultdict(list)
    for source_id, partition, offset, *_ in rows:
        offsets[source_id, partition].append(offset)
    groups = [[*key, len(some), sum(some), min(some), max(some)] for key, some in offsets.items()]
    return summary(groups, sum(row[2] >= MIDDLE for row in rows), rows)


def on_disk(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change of each file of an archive; the lock beside them belongs to the tests."""
    found = (path for state in STATES for path in (folder / state).rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("engine", ENGINES)
def test_another_engine_finds_what_we_find(engine: str, states: Path, tmp_path: Path) -> None:
    """The same counts, the same answers to filters, and every row with the same bytes; and it leaves the tables as they were."""
    place = environment_or_skip(engine)
    before = on_disk(states)
    wanted = tables(states)
    run = subprocess.run(
        [place.python, "-m", "tests.readers.engines", engine, tmp_path / "found.json", *wanted.values()],
        cwd=ROOT,
        env={**os.environ, **place.variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    # Spark proves the pointer's checksum, and if it is wrong says so and looks for checkpoints itself.
    assert "_last_checkpoint" not in run.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    differing = {
        name: (found[str(table)], expected)
        for name, table in wanted.items()
        if found[str(table)] != (expected := json.loads(json.dumps(our_summary(our_rows(table)))))
    }
    assert differing == {}
    assert on_disk(states) == before


def test_every_state_holds_the_same_events(states: Path) -> None:
    """Sealing and compaction bring and lose nothing; only when an event came in may differ."""
    rows = {name: our_rows(table) for name, table in tables(states).items()}
    for stream in STREAMS:
        plain, *others = (sorted(repr(row[:-1]) for row in rows[f"{state}/{stream}"]) for state in STATES)
        assert len(plain) > 500
        assert all(other == plain for other in others)


def test_a_difference_in_any_column_is_noticed(states: Path) -> None:
    """Else the comparison with other engines would prove nothing."""
    rows = our_rows(tables(states)["plain/records"])
    right = our_summary(rows)
    at = next(i for i, row in enumerate(rows) if row[7] == b'{"n": 1}' and row[1] == 0)
    changed: tuple[Any, ...] = ("x", 9, 10**6, 1, 1, "log_append_time", b"x", None, [], 99)
    for column, value in enumerate(changed):
        assert rows[at][column] != value
        other = (*rows[at][:column], value, *rows[at][column + 1 :])
        assert our_summary([*rows[:at], other, *rows[at + 1 :]]) != right
    assert our_summary(rows[1:]) != right
    assert our_summary([*rows, rows[0]]) != right
    assert our_summary(rows[::-1]) == right


def test_the_page_names_the_versions_that_are_tried() -> None:
    """Those of the locks; and each engine has its section."""
    page = DOCUMENT.read_text()
    pinned = "".join((HERE / f"{engine}.in").read_text() for engine in OTHERS)
    versions = dict(re.findall(r"^([a-z-]+)==([0-9.]+)$", pinned, re.MULTILINE))
    pom = (HERE / "spark" / "pom.xml").read_text()
    (artifact, versions["delta-spark"]), *_ = re.findall(
        r"<artifactId>(delta-spark.*)</artifactId>\s*<version>(.*)</version>", pom
    )
    table = page.split("## Which engine")[1]
    for package in ("duckdb", "duckdb-extension-delta", "polars", "deltalake", "pyspark", "delta-spark"):
        assert versions[package] in table, package
    assert f"pyspark=={versions['pyspark']}" in page
    assert f"--packages io.delta:{artifact}:{versions['delta-spark']}" in page
    assert set(OTHERS) | set(OURS) == set(ENGINES)
