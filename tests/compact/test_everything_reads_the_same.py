"""Whoever reads events gets the same before and after a compaction, to the byte."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from deltalake import DeltaTable

from event_archive.archive.snapshot import read_snapshot
from event_archive.compaction.days import compact_stream
from event_archive.coverage import stream_coverage
from event_archive.envelope import EVENT_SCHEMA
from event_archive.replay.events import ArchivedEvents
from event_archive.replay.folder import replay_to_folder
from event_archive.replay.lines import replay_lines, replay_lines_to_folder
from event_archive.replay.selection import Bounds, parse_bound
from event_archive.sql.views import archive_select
from event_archive.status import stream_status
from event_archive.warehouse.pin import pin_streams
from tests.compact.topic_archive import DAY, SOURCE, a_day_of_commits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project

TODAY = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)


def a_project_of_files(project: Project) -> None:
    """Many ingests of files that grow, with blank lines, an open end, other generations and odd names."""
    chance = random.Random(5)
    names = ["a.jsonl", "b/c.jsonl", "b/\u00fc.jsonl", "z%.jsonl", "empty.jsonl"]
    content = dict.fromkeys(names, b"")
    for _ in range(8):
        for name in names[:4]:
            if chance.random() < 0.7:
                lines = [
                    chance.choice([b"", b'{"n":%d}' % chance.randrange(99), b"\r", b"x" * 50])
                    for _ in range(chance.randrange(9))
                ]
                content[name] += b"".join(line + b"\n" for line in lines)
            project.write(name, content[name])
        project.write("empty.jsonl", b"")
        project.ingest(settled=True)
    project.write("a.jsonl", content["a.jsonl"] + b"the end, without a line end")
    project.ingest(settled=True)
    assert project.ingest(settled=True).problems == ()


def compacted(project: Project) -> int:
    """Compacts everything, in two steps; gives the number of files that are left."""
    compact_stream(project.config(), "events", until=TODAY, target_bytes=15_000)
    result = compact_stream(project.config(), "events", until=TODAY)
    assert result.problems == ()
    return result.files


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(project: Project, *, envelope: bool, bounds: Bounds | None = None) -> bytes:
    """What a replay writes to stdout."""
    out = io.BytesIO()
    replay_lines(
        "events", ArchivedEvents(project.config(), "events", bounds or Bounds()), out, envelope=envelope
    )
    return out.getvalue()


def test_files_come_back_byte_for_byte(project: Project) -> None:
    """The very files, whatever holds their lines now; and so do lines on stdout and in a folder."""
    a_project_of_files(project)
    folder = project.folder

    def replayed(name: str) -> list[Any]:
        files = replay_to_folder(project.config(), "events", folder / name)
        assert all(file.is_identical for file in files)
        archived = ArchivedEvents(project.config(), "events", Bounds())
        replay_lines_to_folder("events", archived, folder / f"{name}-lines", envelope=True)
        return [
            tree(folder / name),
            tree(folder / f"{name}-lines"),
            lines(project, envelope=False),
            lines(project, envelope=True),
        ]

    before = replayed("before")
    assert compacted(project) == 1
    assert replayed("after") == before
    landed = {name: data for name, data in tree(project.landing).items() if name != "empty.jsonl"}
    assert {name: data for name, data in before[0].items() if name != "empty.jsonl"} == landed


def test_topics_come_back_in_the_same_order(topic_project: Project) -> None:
    """By commit, then row; with bounds too."""
    archive = a_day_of_commits(topic_project.store, commits=25)
    archive.append({0: 3, 1: 4}, at=DAY, source_id=SOURCE + "#2")
    bounds = [
        Bounds(),
        Bounds(parse_bound("0:3,1:9", "--from"), parse_bound("3:40", "--until")),
        Bounds(parse_bound("2023-11-20T00:00:00Z", "--from")),
        Bounds(all_generations=True),
    ]
    before = [lines(topic_project, envelope=True, bounds=some) for some in bounds]
    assert len(set(before)) == len(bounds)
    assert compacted(topic_project) == 1
    assert [lines(topic_project, envelope=True, bounds=some) for some in bounds] == before


def test_queries_and_views_give_the_same_rows(topic_project: Project) -> None:
    """`sql`, what dbt's views show, and the pinned snapshot; `commit_version` too, by which incremental models go on."""
    a_day_of_commits(topic_project.store, commits=25)
    columns = ", ".join(EVENT_SCHEMA.names)
    query = (
        f"select {columns}, payload from archive.events order by source_id, source_partition, source_offset"
    )

    def asked() -> list[Any]:
        done = topic_project.run("sql", query, "--format", "csv")
        assert done.returncode == 0, done.stderr
        pinned = pin_streams(topic_project.config())["events"]
        with closing(duckdb.connect()) as connection:
            viewed = connection.execute(
                f"select * from ({archive_select(pinned.files, with_payload=True)}) where commit_version > 9 order by 1, 2, 3"
            ).fetchall()
        return [done.stdout, pinned.events, viewed]

    before = asked()
    assert compacted(topic_project) == 1
    assert asked() == before


def test_status_and_coverage_are_the_same(topic_project: Project) -> None:
    """But for the files and the version."""
    a_day_of_commits(topic_project.store, commits=25)

    def told() -> list[Any]:
        status = stream_status(topic_project.config(), "events")
        facts = (
            status.events,
            status.bytes,
            status.first_event_time,
            status.last_event_time,
            status.first_ingested_at,
        )
        return [
            *facts,
            status.last_ingested_at,
            status.positions,
            status.gaps,
            stream_coverage(topic_project.config(), "events").partitions,
        ]

    before = told()
    assert compacted(topic_project) == 1
    assert told() == before


@pytest.mark.parametrize("sealed", [False, True])
def test_other_readers_of_the_format_see_the_same_rows(topic_project: Project, *, sealed: bool) -> None:
    """delta-rs knows nothing of us; with a checkpoint or without."""
    a_day_of_commits(topic_project.store, commits=120 if sealed else 25, events=4)

    def read() -> list[Any]:
        table = DeltaTable(str(topic_project.table)).to_pyarrow_table()
        rows = table.select(EVENT_SCHEMA.names).sort_by([(n, "ascending") for n in EVENT_SCHEMA.names[:3]])
        return [str(row) for row in rows.to_pylist()]

    before = read()
    assert compacted(topic_project) == 1
    assert (topic_project.table / "_delta_log" / "_last_checkpoint").exists() == sealed
    assert read() == before
    assert len(before) == read_snapshot(topic_project.store).events


def test_ingest_goes_on_after_it(project: Project) -> None:
    """From the same positions; nothing comes twice."""
    a_project_of_files(project)
    before = project.events()
    compacted(project)
    assert project.ingest(settled=True).events == 0
    project.write("a.jsonl", (project.landing / "a.jsonl").read_bytes() + b"\nmore\n")
    assert project.ingest(settled=True).problems == ()
    found = project.events()
    assert {name: values[: len(before[name])] for name, values in found.items()} == before
    assert json.loads(project.run("status", "--json").stdout)["streams"][0]["events"] == sum(
        map(len, found.values())
    )
