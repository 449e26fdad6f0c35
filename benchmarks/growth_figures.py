"""What a commit, `status` and `sql` cost when the log is as long as that of years; and one stream of 10,000 files and 10 billion rows.

`log_generator` makes the logs. `--scale 0.1` stops at 100,000 commits.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks.log_generator import LogGenerator
from benchmarks.measuring import Figure, event_archive, median
from event_archive.appending import Appender
from event_archive.archive.columns import column, string_column
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.archive.history import log_versions
from event_archive.archive.snapshot import read_snapshot
from event_archive.config import load_config
from event_archive.sources.files.ingest import APPLICATION
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
COMMITS = 50
RUNS = 3
TAIL = 900
"""Entries since the last seal: nearly as many as there can be, which is the slowest moment."""


def long_logs(folder: Path, scale: float) -> None:
    """Commits, `status` and `sql` at each length."""
    print("commits  log folder  open    commit  of it at 100  status  sql     entries  state")
    at_100 = 0.0
    for length in LENGTHS:
        if length > LENGTHS[-1] * scale:
            break
        project = folder / str(length)
        table = _made(project, length)
        opened = _seconds(lambda table=table: read_snapshot(table))
        commit = _commit_seconds(project)
        at_100 = at_100 or (commit if length == 100 else 0.0)  # noqa: PLR2004
        status = median([event_archive("status", cwd=project) for _ in range(RUNS)])
        sql = median([_sql(project) for _ in range(RUNS)])
        own = [file.size_bytes for file in table.files("_event_archive") if "/state-" in file.name]
        print(
            f"{length:>9,} {len(log_versions(table)):>9,} {opened * 1e3:>7.0f} ms {commit * 1e3:>7.2f} ms "
            f"{commit / at_100 if at_100 else 1:>6.2f} {status.seconds:>7.2f} s {sql.seconds:>6.2f} s "
            f"{sum(f.size_bytes for f in table.files('_event_archive')) / 2**20:>7.1f} MB {max(own, default=0) / 2**20:>6.1f} MB"
        )


def _sql(project: Path) -> Figure:
    return event_archive("sql", "select 1", cwd=project)


def _configure(project: Path) -> None:
    (project / "landing").mkdir(parents=True)
    (project / "event_archive.yaml").write_text(
        "archive: archive\nwarehouse: warehouse\nstreams:\n  events:\n    source: {type: files, path: landing}\n"
    )
    (project / "archive" / "events").mkdir(parents=True)


def _made(project: Path, length: int) -> FolderStore:
    _configure(project)
    folder = project / "archive" / "events"
    generator = LogGenerator(folder)
    generator.grow(length if length < 10 * TAIL else length + TAIL)
    generator.finish()
    return FolderStore(folder)


def _seconds(work: object) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _commit_seconds(project: Path) -> float:
    """Median over commits of 100 events, each with its fsyncs."""
    config = load_config(project / "event_archive.yaml")
    appender = Appender("events", config.stream("events"), config.table("events"))
    appender.open(lambda _: None)
    rows = _rows()
    times = []
    for _ in range(COMMITS):
        started = time.perf_counter()
        appender.write_rows(rows, 100)
        appender.commit({}, application=APPLICATION)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _rows() -> pa.Table:
    import numpy as np

    count = 100
    columns = {
        "source_id": string_column(["file:a.jsonl"] * count).dictionary_encode(),
        "source_partition": column(pa.int32(), np.zeros(count, np.int32)),
        "source_offset": column(pa.int64(), np.arange(count)),
        "value": string_column(["{}"] * count).cast(pa.binary()),
    }
    return pa.table(
        [columns.get(field.name, pa.nulls(count, field.type)) for field in SOURCE_SCHEMA],
        schema=SOURCE_SCHEMA,
    )


def ten_billion_rows(folder: Path) -> None:
    """A log only: 10,000 active files of a million rows each, never compacted, in commits of 12 sources.

    The files are there and tiny: counting them costs what opening so many files costs.
    """
    project = folder / "files"
    _configure(project)
    generator = LogGenerator(project / "archive" / "events", events_a_source=83_334, compacts=False)
    generator.grow(10_000)
    generator.finish()
    table = FolderStore(project / "archive" / "events")
    seconds = _seconds(lambda: read_snapshot(table))
    snapshot = read_snapshot(table)
    state = max(file.size_bytes for file in table.files("_event_archive") if "/state-" in file.name)
    print(
        f"{len(snapshot.files):,} files, {snapshot.events / 1e9:.1f}e9 rows: opened in {seconds * 1e3:.0f} ms, state {state / 2**20:.1f} MB"
    )
    for words in (["status"], ["sql", "select 1"], ["sql", "select count(*) from archive.events"]):
        print(f"  {' '.join(words)}: {event_archive(*words, cwd=project).seconds:.2f} s")
