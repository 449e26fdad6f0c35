"""Compaction beside ingests, readers and other compactions, all at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb

from event_archive.archive.snapshot import read_snapshot
from event_archive.clean import clean_stream
from event_archive.compaction.days import compact_stream
from event_archive.replay.folder import replay_to_folder
from event_archive.sql.views import archive_select
from tests.compact.test_everything_reads_the_same import TODAY, tree

if TYPE_CHECKING:
    from tests.conftest import Project

ROUNDS = 25


def ingest(project: Project, is_over: threading.Event) -> None:
    """Commits again and again."""
    data = b""
    try:
        for number in range(ROUNDS):
            data += b"".join(b'{"n":%d}\n' % n for n in range(number * 10, number * 10 + 10))
            project.write("a.jsonl", data)
            project.write(f"{number % 3}.jsonl", data)
            project.ingest(settled=True)
    finally:
        is_over.set()


def compact(project: Project, is_over: threading.Event) -> int:
    """Compacts and cleans for as long as there is an ingest; gives how often there was something to merge."""
    merged = 0
    while not is_over.is_set():
        result = compact_stream(project.config(), "events", until=TODAY, target_bytes=100_000)
        assert result.problems == ()
        merged += len(result.compacted)
        clean_stream(project.config(), "events")
    return merged


def query(project: Project, is_over: threading.Event) -> list[int]:
    """Counts events for as long as there is an ingest; each snapshot must hold each event once."""
    seen = []
    while not is_over.is_set():
        snapshot = read_snapshot(project.store)
        if snapshot.files:
            source = archive_select(snapshot.file_paths(), with_payload=False)
            with closing(duckdb.connect()) as connection:
                found = connection.execute(
                    f"select count(*), count(distinct (source_id, source_offset)) from ({source})"
                ).fetchall()
            assert found == [(snapshot.events, snapshot.events)]
            seen.append(snapshot.events)
    return seen


def test_nobody_notices_a_compaction(project: Project) -> None:
    """Each snapshot holds each event once, at any moment; no ingest loses any; in the end all is there, byte for byte."""
    is_over = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        ingesting = pool.submit(ingest, project, is_over)
        compacting = [pool.submit(compact, project, is_over) for _ in range(2)]
        seen = pool.submit(query, project, is_over).result()
        ingesting.result()
        merged = sum(future.result() for future in compacting)
    assert merged > 3
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert project.ingest(settled=True).events == 0
    compact_stream(project.config(), "events", until=TODAY)
    assert len(read_snapshot(project.store).files) == 1
    files = replay_to_folder(project.config(), "events", project.folder / "back")
    assert all(file.is_identical for file in files)
    assert tree(project.folder / "back") == tree(project.landing)
