"""Compaction changes where events lie, and nothing about them."""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from event_archive.archive import commit as commit_module
from event_archive.archive import data_file
from event_archive.archive.contents import Contents
from event_archive.archive.data_file import DataFileWriter
from event_archive.archive.history import iter_commits
from event_archive.archive.rearrange import MEMORY_BYTES, Rearranger
from event_archive.archive.row_digest import RowDigester
from event_archive.archive.snapshot import read_snapshot
from event_archive.compaction import days as compact
from event_archive.compaction import merging
from event_archive.compaction.days import CompactResult
from event_archive.errors import StorageError
from tests.compact.compacting import compacted, names_in
from tests.compact.topic_archive import (
    DAY,
    MINUTE,
    TopicArchive,
    a_day_of_commits,
    all_rows,
    is_in_order,
    rows_of,
)

if TYPE_CHECKING:
    from event_archive.storage.store import Store
    from tests.conftest import Project

A_DAY = dt.timedelta(days=1)


def assert_log_tells_what_files_hold(table: Store) -> None:
    """Each file holds the spans that the log says, in their order, with the digests of the commits that brought them."""
    contents = Contents()
    for commit in iter_commits(table):
        contents.note(commit)
    files = {file.path: file for file in read_snapshot(table).files}
    assert contents.by_file.keys() == files.keys()
    for path, held in contents.by_file.items():
        with table.local_path(path, size_bytes=0, sha256="").open("rb") as file:
            rows = pq.ParquetFile(file).read()
        digester, at = RowDigester(), 0
        for item in held:
            part = rows.slice(at, item.span.events)
            digester.update(part)
            digester.end_span()
            assert set(part["commit_version"].to_pylist()) == {item.commit_version}
            at += item.span.events
        assert at == rows.num_rows == files[path].num_records
        for found, item in zip(digester.take(), held, strict=True):
            assert item.digest in ("", found.sha256)


@pytest.mark.parametrize("memory_bytes", [MEMORY_BYTES, 20_000, 1])
@pytest.mark.parametrize("target_bytes", [compact.TARGET_BYTES, 40_000])
def test_every_event_is_the_same_afterwards(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch, memory_bytes: int, target_bytes: int
) -> None:
    """Every column of every row; sorted in each file; however little memory there is, in however many files."""
    monkeypatch.setattr(merging, "Rearranger", functools.partial(Rearranger, memory_bytes=memory_bytes))
    table = topic_project.store
    a_day_of_commits(table, commits=40)
    before = all_rows(table)
    result = compacted(topic_project, target_bytes=target_bytes)
    assert result.problems == ()
    assert sum(item.events for item in result.compacted) >= len(before) > 500
    assert all_rows(table) == before
    for path in read_snapshot(table).file_paths():
        assert is_in_order(rows_of([path]))
    assert_log_tells_what_files_hold(table)


def test_a_second_compaction_does_nothing(topic_project: Project) -> None:
    """Not a byte is written."""
    a_day_of_commits(topic_project.store)
    first = compacted(topic_project)
    assert [(item.files_before, item.files_after) for item in first.compacted] == [(20, 1)]
    before = names_in(topic_project.store)
    again = compacted(topic_project)
    assert (again.compacted, again.is_sealed, again.version) == ((), False, first.version)
    assert names_in(topic_project.store) == before


@pytest.mark.parametrize("limit_bytes", [2000, 5000, 8000, 12_000])
def test_files_end_between_spans_only(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch, limit_bytes: int
) -> None:
    """However small the limit is: one span is never in two files, or the log couldn't tell what a file holds."""
    monkeypatch.setattr(merging, "ROW_GROUP_ROWS", 7)
    monkeypatch.setattr(data_file, "_OUTPUT_BYTES", 1)
    table = topic_project.store
    a_day_of_commits(table, partitions=3)
    before = all_rows(table)
    files = read_snapshot(table).files
    merged = merging.merge_files(
        table, files, limit_bytes=limit_bytes, scratch=topic_project.folder / "scratch"
    )
    rows = [rows_of([topic_project.table / file.path]) for file in merged.files]
    spans = [{(row[0], row[1], row[11]) for row in found} for found in rows]
    assert len(spans) > 1
    assert [len(file.digests) for file in merged.files] == [len(found) for found in spans]
    assert sum(map(len, spans)) == len(set().union(*spans)) == merged.spans
    assert sorted((row for found in rows for row in found), key=lambda row: row[:3]) == before


def test_what_was_compacted_is_compacted_again_with_what_came_later(topic_project: Project) -> None:
    """A late commit of a day that was over, and days of their own files."""
    table = topic_project.store
    archive = a_day_of_commits(table, commits=6)
    for number in range(4):
        archive.append({0: 3, 2: 4}, at=DAY + A_DAY + number * MINUTE)
    result = compacted(topic_project)
    assert [item.ingest_date for item in result.compacted] == ["2026-03-01", "2026-03-02"]
    archive.catch_up()
    archive.append({0: 5}, at=DAY + 30 * MINUTE)
    before = all_rows(table)
    again = compacted(topic_project)
    assert [(item.ingest_date, item.files_before, item.files_after) for item in again.compacted] == [
        ("2026-03-01", 2, 1)
    ]
    assert all_rows(table) == before
    assert_log_tells_what_files_hold(table)


def test_commits_without_digests_are_proved_by_what_they_hold(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archives that were begun with an earlier version have them; later commits and compactions stand beside them."""
    table = topic_project.store
    facts = commit_module._facts

    def earlier(*arguments: Any) -> dict[str, Any]:
        made = facts(*arguments)
        return {name: fact for name, fact in made.items() if name not in ("digests", "rowGroups")}

    with monkeypatch.context() as patch:
        patch.setattr(commit_module, "FORMAT", 1)
        patch.setattr(commit_module, "_facts", earlier)
        archive = a_day_of_commits(table, commits=9)
    for number in range(5):
        archive.append({0: 7, 1: 30}, at=DAY + number * MINUTE, group_rows=4)
    before = all_rows(table)
    assert compacted(topic_project).problems == ()
    assert all_rows(table) == before
    archive.catch_up()
    archive.append({1: 3}, at=DAY)
    before = all_rows(table)
    assert (
        compacted(topic_project).problems == ()
    )  # now the input is a file without recorded digests that holds many spans
    assert all_rows(table) == before
    assert_log_tells_what_files_hold(table)


def test_only_days_that_are_over_are_compacted(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an hour, since a commit that began before midnight may come after it."""
    assert compact._last_closed_date(dt.datetime(2026, 3, 2, 0, 59, tzinfo=dt.UTC)) == dt.date(2026, 2, 28)
    assert compact._last_closed_date(dt.datetime(2026, 3, 2, 1, 1, tzinfo=dt.UTC)) == dt.date(2026, 3, 1)
    a_day_of_commits(topic_project.store)
    monkeypatch.setattr(compact, "_last_closed_date", lambda _now: dt.date(2026, 2, 28))
    assert compacted(topic_project).compacted == ()
    assert len(compacted(topic_project, until=dt.date(2026, 3, 1)).compacted) == 1


def test_a_damaged_file_is_left_alone_and_named(topic_project: Project) -> None:
    """Its day stays as it is, with all files; the other days are compacted."""
    table = topic_project.store
    archive = a_day_of_commits(table, commits=4)
    for number in range(3):
        archive.append({0: 10}, at=DAY + A_DAY + number * MINUTE)
    victim = topic_project.table / read_snapshot(table).files[1].path
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    before = names_in(table)
    result = compacted(topic_project)
    assert [item.ingest_date for item in result.compacted] == ["2026-03-02"]
    assert len(result.problems) == 1
    assert victim.name in result.problems[0]
    assert len(names_in(table) - before) == 2  # a file of the other day, and its log entry
    assert len(read_snapshot(table).files) == 4 + 1
    done = topic_project.run("compact")
    assert done.returncode == 1
    assert "does not match its SHA-256" in done.stderr


def test_a_full_disk_leaves_nothing_new(topic_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a file nor a commit."""
    table = topic_project.store
    a_day_of_commits(table)
    before = names_in(table)

    def full(*_: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr(DataFileWriter, "write_row_group", full)
    with pytest.raises(StorageError):
        compacted(topic_project)
    assert names_in(table) == before


def test_a_compaction_that_loses_a_race_commits_on_the_new_head(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ingest that commits meanwhile takes nothing away from it."""
    table = topic_project.store
    archive = a_day_of_commits(table)
    replace = commit_module.commit_replacement
    late = iter([1, 2])

    def raced(*arguments: Any) -> Any:
        if next(late, None):
            archive.append({0: 3}, at=DAY + A_DAY)
        return replace(*arguments)

    monkeypatch.setattr(compact, "commit_replacement", raced)
    result = compacted(topic_project, until=dt.date(2026, 3, 1))
    assert [item.version for item in result.compacted] == [20 + 2 + 1]
    assert len(read_snapshot(table).files) == 3
    assert len(all_rows(table)) == len({row[:3] for row in all_rows(table)})
    assert_log_tells_what_files_hold(table)


def test_files_that_are_gone_are_not_replaced_a_second_time(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two compactions of a day one wins; the other gives the day up and removes what it has written."""
    table = topic_project.store
    a_day_of_commits(table)
    rows = all_rows(table)
    merge = merging.merge_files
    others: list[CompactResult] = []

    def raced(*arguments: Any, **options: Any) -> Any:
        merged = merge(*arguments, **options)
        if not others:
            others.append(CompactResult("", (), 0, 0, is_sealed=False, given_up=(), problems=(), seconds=0))
            others[0] = compacted(topic_project)
        return merged

    monkeypatch.setattr(compact, "merge_files", raced)
    result = compacted(topic_project)
    assert len(others[0].compacted) == 1
    assert (result.compacted, result.given_up) == ((), ("2026-03-01",))
    assert all_rows(table) == rows
    assert len([name for name in names_in(table) if "compacted-" in name]) == 1


def test_row_groups_are_of_the_usual_size(topic_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small they were before."""
    monkeypatch.setattr(merging, "ROW_GROUP_ROWS", 100)
    archive = TopicArchive(topic_project.store)
    for number in range(10):
        archive.append({0: 20, 1: 13}, at=DAY + number * MINUTE)
    compacted(topic_project)
    (path,) = read_snapshot(topic_project.store).file_paths()
    with open(path, "rb") as file:  # noqa: PTH123 - text
        metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100, 100, 100, 30]


def test_old_log_entries_are_sealed_after_it(topic_project: Project) -> None:
    """When there are a hundred of them; and the archive reads as before."""
    table = topic_project.store
    a_day_of_commits(table, commits=120, events=3)
    before = all_rows(table)
    result = compacted(topic_project)
    assert result.is_sealed
    assert all_rows(table) == before
    assert not compacted(topic_project).is_sealed


def test_the_command_says_what_it_did(topic_project: Project) -> None:
    """And takes sizes and dates as people write them."""
    a_day_of_commits(topic_project.store)
    for arguments, text in (
        (("--target-bytes", "much"), "write a size like"),
        (("--target-bytes", "0"), "write a size like"),
        (("--until", "yesterday"), "write a date"),
        (("nothing",), "there is no stream 'nothing'"),
    ):
        wrong = topic_project.run("compact", *arguments)
        assert (wrong.returncode, text in wrong.stderr) == (2, True), wrong.stderr
    assert "Nothing to merge." in topic_project.run("compact", "--until", "2026-02-28").stdout
    done = topic_project.run("compact", "events", "--target-bytes", "384MB")
    assert done.returncode == 0, done.stderr
    assert "2026-03-01" in done.stdout
    assert '"compacted": []' in topic_project.run("compact", "--json").stdout
