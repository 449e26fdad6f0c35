"""Cleaning beside seals: what they left goes, what they name or may still take stays."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import clean, layout
from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.clean import Reason
from event_archive.errors import ArchiveDamaged
from event_archive.sealing import seal
from tests.clean.cleaning import IN_EIGHT_DAYS, NOW, age_everything, cleaned, names_in, put, reasons
from tests.compact.topic_archive import DAY, MINUTE, TopicArchive, a_day_of_commits, all_rows

if TYPE_CHECKING:
    from tests.conftest import Project


def sealed_often(project: Project) -> TopicArchive:
    """A table that was sealed three times."""
    archive = TopicArchive(project.store)
    for number in range(3):
        for minute in range(4):
            archive.append({0: 2}, at=DAY + (number * 10 + minute) * MINUTE)
        assert seal(project.store, at_least=3) is not None
        archive.catch_up()
    return archive


def test_what_no_seal_names_is_removed_after_a_day(topic_project: Project) -> None:
    """A seal that crashed leaves segments, a state and a checkpoint that were never committed."""
    sealed_often(topic_project)
    before = names_in(topic_project)
    made_in_vain = [
        layout.segment_name(10, 12, "ab" * 32),
        layout.state_name(12, "ab" * 32),
        layout.checkpoint_name(12),
    ]
    for name in made_in_vain:
        put(topic_project, name)
    put(topic_project, layout.state_name(13, "ab" * 32), at=NOW)
    result = cleaned(topic_project)
    assert {file.name for file in result.removed} == set(made_in_vain)
    assert reasons(result) == {Reason.unsealed}
    assert names_in(topic_project) == before | {layout.state_name(13, "ab" * 32)}


def test_a_checkpoint_to_which_readers_are_pointed_stays(topic_project: Project) -> None:
    """Another Delta writer may have made it."""
    sealed_often(topic_project)
    put(topic_project, layout.checkpoint_name(2))
    put(topic_project, layout.checkpoint_name(1))
    put(topic_project, layout.LAST_CHECKPOINT, content=json.dumps({"version": 2}).encode())
    assert [file.name for file in cleaned(topic_project).removed] == [layout.checkpoint_name(1)]


def test_what_a_seal_left_behind_is_removed(topic_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal that was interrupted before its last step leaves entries that earlier segments have, and old states."""
    from event_archive import sealing

    table = topic_project.store
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "remove_sealed", lambda *_: None)
        archive = sealed_often(topic_project)
    rows = all_rows(table)
    left = names_in(topic_project)
    result = cleaned(topic_project)
    assert reasons(result) == {Reason.sealed, Reason.outdated}
    assert all_rows(table) == rows
    # Just what the seal itself would have removed.
    for name in left - names_in(topic_project):
        assert (
            layout.entry_version(name.rpartition("/")[2]) is not None
            or "checkpoint" in name
            or "state" in name
        )
    archive.catch_up()
    archive.append({0: 2}, at=DAY)
    assert len(all_rows(table)) == len(rows) + 2
    assert cleaned(topic_project).removed == ()


def test_an_entry_stays_while_its_segment_is_damaged(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is then the only copy."""
    from event_archive import sealing

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "remove_sealed", lambda *_: None)
        sealed_often(topic_project)
    first = min(path for path in (topic_project.table / "_event_archive").iterdir() if "entries" in path.name)
    first.chmod(0o644)
    first.write_bytes(first.read_bytes()[:-1])
    removed = {file.name for file in cleaned(topic_project).removed if file.reason == Reason.sealed}
    versions = {layout.entry_version(name.rpartition("/")[2]) for name in removed}
    first_segment = layout.segment_range(first.name)
    assert first_segment is not None
    assert versions
    assert not versions & set(range(first_segment[0], first_segment[1] + 1))


def test_nothing_is_removed_while_segments_tell_of_newer_entries(topic_project: Project) -> None:
    """The log was cut off, and what looks useless may belong to what is missing."""
    a_day_of_commits(topic_project.store, commits=5)
    assert seal(topic_project.store, at_least=3) is not None
    put(topic_project, layout.data_file_name(dt.date(2026, 3, 1), 3, "ab"))
    for version in (5, 6):
        (topic_project.table / layout.entry_name(version)).unlink()
    age_everything(topic_project)
    before = names_in(topic_project)
    with pytest.raises(ArchiveDamaged, match="its newest entries are missing"):
        cleaned(topic_project, now=IN_EIGHT_DAYS)
    assert names_in(topic_project) == before


def test_what_the_next_seal_may_take_stays(topic_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal was killed behind its segment long ago; the next one makes the same bytes, and must not lose them to a clean beside it."""
    from event_archive import sealing

    table = topic_project.store
    a_day_of_commits(table, commits=5)
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "encode_state", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            seal(table, at_least=3)
    (left,) = (name for name in names_in(topic_project) if "/entries-" in name)
    put(topic_project, layout.data_file_name(dt.date(2026, 3, 1), 3, "ab"))
    age_everything(topic_project)
    delete = type(table).delete

    def delete_beside_a_seal(store: Any, name: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(type(table), "delete", delete)
            seal(table, at_least=3)
        delete(store, name)

    monkeypatch.setattr(type(table), "delete", delete_beside_a_seal)
    assert reasons(cleaned(topic_project)) == {Reason.unreferenced}
    assert left in names_in(topic_project)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_what_a_seal_takes_at_this_moment_stays(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is read once more before the first file of a seal goes."""
    sealed_often(topic_project)
    table = topic_project.store
    (newest,) = (c for c in iter_commits(table) if c.version == read_snapshot(table).version)
    assert newest.sealed is not None
    age_everything(topic_project)
    entry = topic_project.table / layout.entry_name(newest.version)
    to_come = entry.rename(topic_project.folder / "entry")
    named = {newest.sealed.state, newest.sealed.checkpoint, newest.sealed.segments[0].name}
    choose = clean._Choice.spare_what_has_no_whole_successor

    def late(choice: Any, *arguments: Any) -> Any:
        choice.removed += [clean.Removed(name, 1, Reason.unsealed) for name in sorted(named)]
        to_come.rename(entry)
        return choose(choice, *arguments)

    monkeypatch.setattr(clean._Choice, "spare_what_has_no_whole_successor", late)
    cleaned(topic_project)
    assert named <= names_in(topic_project)
