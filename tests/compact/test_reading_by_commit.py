"""The order of events is that of the commits that brought them, whatever files hold them now."""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from event_archive.archive import events_by_commit
from event_archive.archive.events_by_commit import CommitRows, rows_by_commit
from event_archive.archive.rearrange import MEMORY_BYTES, Rearranger
from event_archive.archive.snapshot import read_snapshot
from event_archive.clean import clean_stream
from event_archive.compaction import merging
from event_archive.compaction.days import compact_stream
from event_archive.errors import ArchiveDamaged
from event_archive.replay.digests import DIGESTED_COLUMNS
from event_archive.replay.events import ArchivedEvents, Position
from event_archive.replay.selection import Bounds
from tests.compact.topic_archive import DAY, MINUTE, TopicArchive, a_day_of_commits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.storage.store import Store
    from tests.conftest import Project

COLUMNS = (
    "source_id",
    "source_partition",
    "source_offset",
    "timestamp_ms",
    "key",
    "value",
    "headers",
    "commit_version",
)
Row = tuple[Any, ...]


def flat(parts: Iterable[CommitRows]) -> list[Row]:
    """The rows, each with its place."""
    rows: list[Row] = []
    for part in parts:
        for number, row in enumerate(part.rows.to_pylist(), part.first_row):
            rows.append((part.version, number, *map(str, row.values())))
    return rows


def read(project: Project, **options: Any) -> list[Row]:
    """All rows of the project's table, in order."""
    table = project.store
    return flat(
        rows_by_commit(table, read_snapshot(table).files, COLUMNS, scratch=project.folder / "s", **options)
    )


def compacted_in_parts(project: Project, archive: TopicArchive) -> None:
    """Compacts twice, with commits of the same day and another between, so that old and new files stand side by side."""
    compact_stream(project.config(), "events", target_bytes=40_000)
    archive.catch_up()
    for number in range(4):
        archive.append({0: 4, 3: 9}, at=DAY + number * MINUTE)


@pytest.mark.parametrize("memory_bytes", [MEMORY_BYTES, 20_000, 1])
def test_the_order_is_the_same_before_and_after(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    """Row for row, however little memory there is."""
    monkeypatch.setattr(merging, "ROW_GROUP_ROWS", 40)
    archive = a_day_of_commits(topic_project.store, commits=30)
    before = read(topic_project)
    compacted_in_parts(topic_project, archive)
    monkeypatch.setattr(
        events_by_commit, "Rearranger", functools.partial(Rearranger, memory_bytes=memory_bytes)
    )
    monkeypatch.setattr(events_by_commit, "_BATCH_ROWS", 50)
    found = read(topic_project)
    assert found[: len(before)] == before
    assert len(found) == len(before) + 4 * 13
    compact_stream(topic_project.config(), "events")
    assert read(topic_project) == found


def test_reading_begins_and_ends_at_any_place(topic_project: Project) -> None:
    """Inside a commit, behind its last row, in commits without events."""
    archive = a_day_of_commits(topic_project.store, commits=12)
    compacted_in_parts(topic_project, archive)
    rows = read(topic_project)
    places = [row[:2] for row in rows]
    chance = random.Random(3)
    ends = [(0, 0), *places, *((version, number + 1) for version, number in places), (99, 0)]
    for _ in range(60):
        begin, end = sorted(chance.sample(ends, 2))
        expected = [row for row in rows if begin <= row[:2] < end]
        assert read(topic_project, begin=begin, end=end) == expected, (begin, end)


def test_only_files_with_wanted_commits_are_opened(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on at the end of a long archive doesn't read it from the beginning."""
    archive = a_day_of_commits(topic_project.store, commits=12)
    compacted_in_parts(topic_project, archive)
    opened: list[str] = []
    whole_file = events_by_commit.whole_file

    def watched(table: Store, file: Any) -> Any:
        opened.append(file.path)
        return whole_file(table, file)

    monkeypatch.setattr(events_by_commit, "whole_file", watched)
    newest = read_snapshot(topic_project.store).version
    assert len(read(topic_project, begin=(newest, 2))) == 13 - 2
    assert len(opened) == 1


@pytest.mark.parametrize("rows_a_block", [1, 7, 10_000])
def test_an_interrupted_replay_goes_on_after_a_compaction(topic_project: Project, rows_a_block: int) -> None:
    """From any position that it may have noted, and with the rest exactly."""
    archive = a_day_of_commits(topic_project.store, commits=15)

    def blocks(begin: Position) -> list[tuple[Position, list[Row]]]:
        archived = ArchivedEvents(topic_project.config(), "events", Bounds())
        found = archived.blocks(DIGESTED_COLUMNS, begin=begin, rows_a_block=rows_a_block)
        return [
            (block.after, [tuple(map(str, row.values())) for row in block.events.to_pylist()])
            for block in found
        ]

    before = blocks(Position())
    compacted_in_parts(topic_project, archive)
    compact_stream(topic_project.config(), "events")
    added = sum(13 for _ in range(4))
    for at in range(0, len(before), 1 if rows_a_block > 1 else 17):
        expected = [row for _, rows in before[at:] for row in rows]
        begin = before[at - 1][0] if at else Position()
        found = [row for _, rows in blocks(begin) for row in rows]
        assert found[: len(expected)] == expected
        assert len(found) == len(expected) + added
    archived = ArchivedEvents(topic_project.config(), "events", Bounds())
    places = [after for after, _ in before]
    assert [archived.events_before(after) for after in places] == list(
        itertools.accumulate(len(rows) for _, rows in before)
    )


def test_files_that_are_cleaned_away_meanwhile_are_read_where_they_went(topic_project: Project) -> None:
    """A slow reader outlives the time for which replaced files are kept."""
    table = topic_project.store
    a_day_of_commits(table, commits=10)
    expected = read(topic_project)
    files = read_snapshot(table).files
    reading = rows_by_commit(table, files, COLUMNS, scratch=topic_project.folder / "s")
    begun = flat(itertools.islice(reading, 2))
    compact_stream(topic_project.config(), "events")
    with topic_project.config_file.open("a") as file:
        file.write("keep_replaced: 0 days\n")
    assert len(clean_stream(topic_project.config(), "events").removed) == 10
    assert begun + flat(reading) == expected


def test_a_missing_file_is_an_error(topic_project: Project) -> None:
    """And not the end of the table; so is one with other bytes, and one that is not what its commits have brought."""
    table = topic_project.store
    archive = a_day_of_commits(table, commits=6)
    compacted_in_parts(topic_project, archive)
    files = read_snapshot(table).files
    path = topic_project.table / files[0].path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(ArchiveDamaged, match="does not match its SHA-256"):
        read(topic_project)
    path.unlink()
    with pytest.raises(ArchiveDamaged, match="is missing"):
        read(topic_project)


def test_rows_that_no_commit_has_brought_are_an_error(topic_project: Project) -> None:
    """A file whose hash the log has, and which holds something else, can only be a bug: nobody is to build on it."""
    table = topic_project.store
    archive = a_day_of_commits(table, commits=6)
    compact_stream(topic_project.config(), "events")
    (whole,) = read_snapshot(table).files
    archive.catch_up()
    version = archive.append({0: 5}, at=DAY)
    newest = read_snapshot(table).files[-1]
    stats = {"minValues": {"commit_version": 1}, "maxValues": {"commit_version": version}}
    with pytest.raises(ArchiveDamaged, match="the data files don't hold the events that commit"):
        list(
            rows_by_commit(table, [replace(newest, stats=stats)], COLUMNS, scratch=topic_project.folder / "s")
        )
    stats = {"minValues": {"commit_version": version}, "maxValues": {"commit_version": version}}
    wrong = replace(whole, stats=stats)
    with pytest.raises(ArchiveDamaged, match="don't hold the events"):
        list(rows_by_commit(table, [wrong], COLUMNS, scratch=topic_project.folder / "s"))


def test_columns_are_in_one_piece(topic_project: Project) -> None:
    """Those who encode events rely on it."""
    archive = a_day_of_commits(topic_project.store, commits=6)
    compacted_in_parts(topic_project, archive)
    table = topic_project.store
    parts = list(
        rows_by_commit(table, read_snapshot(table).files, COLUMNS, scratch=topic_project.folder / "s")
    )
    assert all(part.rows[name].num_chunks == 1 for part in parts for name in COLUMNS)
    assert {part.rows.schema for part in parts} == {parts[0].rows.schema}
    assert pa.types.is_dictionary(parts[0].rows.schema.field("source_id").type)


def test_nothing_is_left_in_the_scratch_folder(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is spilled has no name, so that not even a killed process leaves it."""
    monkeypatch.setattr(merging, "ROW_GROUP_ROWS", 10)
    archive = a_day_of_commits(topic_project.store, commits=9)
    compacted_in_parts(topic_project, archive)
    monkeypatch.setattr(events_by_commit, "Rearranger", functools.partial(Rearranger, memory_bytes=1))
    table = topic_project.store
    reading = rows_by_commit(table, read_snapshot(table).files, COLUMNS, scratch=topic_project.folder / "s")
    next(reading)
    assert list((topic_project.folder / "s").iterdir()) == []
