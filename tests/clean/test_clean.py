"""Cleaning removes what is of no use any more, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import clean, layout
from event_archive.archive.snapshot import read_snapshot
from event_archive.clean import Reason
from event_archive.compaction.days import compact_stream
from event_archive.errors import ArchiveDamaged
from tests.clean.cleaning import IN_EIGHT_DAYS, NOW, age, age_everything, cleaned, names_in, put, reasons
from tests.compact.topic_archive import DAY, a_day_of_commits, all_rows

if TYPE_CHECKING:
    from tests.conftest import Project


def test_nothing_is_removed_from_a_table_in_order(topic_project: Project) -> None:
    """However old its files are."""
    a_day_of_commits(topic_project.store)
    age_everything(topic_project)
    before = names_in(topic_project)
    result = cleaned(topic_project, now=IN_EIGHT_DAYS)
    assert (result.removed, result.foreign, result.problems) == ((), (), ())
    assert names_in(topic_project) == before


def test_what_an_interrupted_write_left_is_removed_after_a_day(topic_project: Project) -> None:
    """Data files that no commit refers to, and files that were being written; young ones may still be in somebody's hands."""
    a_day_of_commits(topic_project.store)
    before = names_in(topic_project)
    date = dt.date(2026, 3, 1)
    left = [
        layout.data_file_name(date, 21, "ab"),
        layout.data_file_name(date, 3, "ab"),
        layout.compacted_file_name("2026-03-01", "ab"),
        f"_delta_log/{layout.pending_name('ab')}",
        f"_event_archive/{layout.pending_name('cd')}",
        f"ingest_date=2026-03-01/{layout.pending_name('ef')}",
    ]
    for name in left:
        put(topic_project, name)
    young = [
        layout.data_file_name(date, 21, "cd"),
        layout.compacted_file_name("2026-03-01", "cd"),
        f"_delta_log/{layout.pending_name('12')}",
    ]
    for name in young:
        put(topic_project, name, at=NOW - dt.timedelta(hours=23))
    result = cleaned(topic_project)
    assert {file.name for file in result.removed} == set(left)
    assert reasons(result) == {Reason.unreferenced, Reason.pending}
    assert result.removed_bytes == len(left)
    assert names_in(topic_project) == before | set(young)


def test_a_dry_run_removes_nothing(topic_project: Project) -> None:
    """And says what the run after it removes."""
    a_day_of_commits(topic_project.store)
    compact_stream(topic_project.config(), "events")
    put(topic_project, layout.data_file_name(dt.date(2026, 3, 1), 3, "ab"))
    before = names_in(topic_project)
    said = cleaned(topic_project, dry_run=True, now=IN_EIGHT_DAYS)
    assert names_in(topic_project) == before
    assert len(said.removed) == 21
    assert cleaned(topic_project, now=IN_EIGHT_DAYS).removed == said.removed


def test_replaced_files_are_kept_for_as_long_as_the_configuration_says(topic_project: Project) -> None:
    """From the time of the compaction on, whatever the files' own times are; then they go, and not an event with them."""
    table = topic_project.store
    a_day_of_commits(table)
    rows = all_rows(table)
    compact_stream(topic_project.config(), "events")
    age_everything(topic_project)
    kept = cleaned(topic_project, now=NOW + dt.timedelta(days=6, hours=23))
    assert (kept.removed, kept.replaced_files) == ((), 20)
    assert kept.replaced_bytes > 0
    gone = cleaned(topic_project, now=NOW + dt.timedelta(days=7, minutes=10))
    assert (len(gone.removed), gone.replaced_files, reasons(gone)) == (20, 0, {Reason.replaced})
    assert all_rows(table) == rows
    assert cleaned(topic_project, now=IN_EIGHT_DAYS).removed == ()
    assert len(list(topic_project.table.rglob("*.parquet"))) == 1


def test_what_was_replaced_twice_goes_twice(topic_project: Project) -> None:
    """The files of the second generation count from the second compaction on."""
    archive = a_day_of_commits(topic_project.store, commits=5)
    compact_stream(topic_project.config(), "events")
    archive.catch_up()
    archive.append({0: 3}, at=DAY)
    rows = all_rows(topic_project.store)
    compact_stream(topic_project.config(), "events")
    assert len(cleaned(topic_project, now=IN_EIGHT_DAYS).removed) == 5 + 2
    assert all_rows(topic_project.store) == rows


@pytest.mark.parametrize("harm", ["missing", "flipped"])
def test_replaced_files_stay_while_what_took_their_place_is_damaged(
    topic_project: Project, harm: str
) -> None:
    """They are then the only ones that have the events."""
    table = topic_project.store
    archive = a_day_of_commits(table, commits=5)
    archive.append({0: 3}, at=DAY + dt.timedelta(days=1))
    archive.append({0: 3}, at=DAY + dt.timedelta(days=1))
    compact_stream(topic_project.config(), "events")
    (victim,) = (
        topic_project.table / file.path for file in read_snapshot(table).files if "03-01" in file.path
    )
    content = victim.read_bytes()
    victim.unlink()
    if harm == "flipped":
        victim.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    result = cleaned(topic_project, now=IN_EIGHT_DAYS)
    assert len(result.problems) == 1
    assert victim.name in result.problems[0]
    assert {file.name[12:22] for file in result.removed} == {"2026-03-02"}
    assert len(result.removed) == 2
    victim.unlink(missing_ok=True)
    victim.write_bytes(content)
    assert len(cleaned(topic_project, now=IN_EIGHT_DAYS).removed) == 5


def test_a_file_that_is_committed_at_this_moment_stays(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time lies (a copy that keeps times, a clock that was wrong), and the commit comes while files are being looked at."""
    archive = a_day_of_commits(topic_project.store, commits=3)
    version = archive.append({0: 5}, at=DAY)
    path = topic_project.table / read_snapshot(topic_project.store).files[-1].path
    age([path])
    entry = topic_project.table / layout.entry_name(version)
    to_come = entry.rename(topic_project.folder / "entry")
    choose = clean._Choice.spare_what_has_no_whole_successor

    def late(*arguments: Any) -> Any:
        chosen = choose(*arguments)
        to_come.rename(entry)
        return chosen

    said = cleaned(topic_project, dry_run=True)
    assert [file.name for file in said.removed] == [f"ingest_date=2026-03-01/{path.name}"]
    monkeypatch.setattr(clean._Choice, "spare_what_has_no_whole_successor", late)
    assert cleaned(topic_project).removed == ()
    assert len(all_rows(topic_project.store)) > 5


def test_foreign_files_are_left_alone_and_named(topic_project: Project) -> None:
    """Whatever they look like, and however old they are."""
    a_day_of_commits(topic_project.store, commits=3)
    foreign = [
        "README.txt",
        "_delta_log/00000000000000000002.crc",
        "_delta_log/notes.json",
        "_event_archive/mine",
        "ingest_date=2026-03-01/part-00000-abc.snappy.parquet",
        "ingest_date=2026-03-01/.hidden.crc",
        "elsewhere/commit-00000000000000000001-ab.parquet",
        "_change_data/x.parquet",
    ]
    for name in foreign:
        put(topic_project, name)
    result = cleaned(topic_project, now=IN_EIGHT_DAYS)
    assert (result.removed, set(result.foreign)) == ((), set(foreign))
    assert set(foreign) <= names_in(topic_project)


def _lose_an_entry(project: Project) -> None:
    (project.table / layout.entry_name(2)).unlink()


def _empty_an_entry(project: Project) -> None:
    (project.table / layout.entry_name(3)).write_bytes(b"")


def _edit_an_entry(project: Project) -> None:
    path = project.table / layout.entry_name(3)
    path.write_bytes(path.read_bytes().replace(b'"events":', b'"events" :'))


def _lose_the_log(project: Project) -> None:
    for path in (project.table / "_delta_log").iterdir():
        path.unlink()


def _cut_the_log(project: Project) -> None:
    for version in (4, 5):
        (project.table / layout.entry_name(version)).unlink()


@pytest.mark.parametrize(
    "harm", [_lose_an_entry, _empty_an_entry, _edit_an_entry, _lose_the_log, _cut_the_log]
)
def test_nothing_is_removed_while_the_log_is_damaged(topic_project: Project, harm: Any) -> None:
    """What looks unreferenced may be what the lost entry referred to."""
    a_day_of_commits(topic_project.store, commits=5)
    put(topic_project, layout.data_file_name(dt.date(2026, 3, 1), 3, "ab"))
    harm(topic_project)
    age_everything(topic_project)
    before = names_in(topic_project)
    with pytest.raises(ArchiveDamaged):
        cleaned(topic_project, now=IN_EIGHT_DAYS)
    assert names_in(topic_project) == before
    done = topic_project.run("clean")
    assert done.returncode == 1
    assert names_in(topic_project) == before


def test_the_command_lists_and_removes(topic_project: Project) -> None:
    """First what would go, then it goes."""
    a_day_of_commits(topic_project.store, commits=3)
    name = layout.data_file_name(dt.date(2026, 3, 1), 3, "ab")
    put(topic_project, name)
    put(topic_project, "notes.txt")
    listed = topic_project.run("clean", "--dry-run")
    assert name in listed.stdout
    assert "would be removed: 1 files" in listed.stdout
    done = topic_project.run("clean", "events")
    assert (done.returncode, "removed: 1 files" in done.stdout) == (0, True), done.stderr
    assert "not ours, left alone: notes.txt" in done.stdout
    again = json.loads(topic_project.run("clean", "--json").stdout)
    assert again["streams"][0]["removed"] == []


def test_a_stream_without_a_table_has_nothing_to_remove(topic_project: Project) -> None:
    """It is no error either."""
    assert cleaned(topic_project).removed == ()
    assert topic_project.run("clean").returncode == 0


def test_the_only_files_that_have_events_stay_when_the_log_was_put_back_from_a_backup(
    topic_project: Project,
) -> None:
    """The backup is from before a compaction: its files are gone, and what took their place belongs to no commit."""
    a_day_of_commits(topic_project.store, commits=5)
    backup = shutil.copytree(topic_project.table / "_delta_log", topic_project.folder / "backup")
    compact_stream(topic_project.config(), "events")
    rows = all_rows(topic_project.store)
    assert len(cleaned(topic_project, now=IN_EIGHT_DAYS).removed) == 5
    now = (topic_project.table / "_delta_log").rename(topic_project.folder / "now")
    shutil.copytree(backup, topic_project.table / "_delta_log")
    age_everything(topic_project)
    result = cleaned(topic_project, now=IN_EIGHT_DAYS)
    assert result.removed == ()
    (problem,) = result.problems
    assert "is missing, so the data files that no commit refers to were not removed" in problem
    shutil.rmtree(topic_project.table / "_delta_log")
    now.rename(topic_project.table / "_delta_log")
    assert all_rows(topic_project.store) == rows
