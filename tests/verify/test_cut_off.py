"""The log folder says which commit is the newest, and what segments have doesn't stand in for what must lie there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.sealing import seal
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.verify import VerifyReport
    from tests.conftest import Project


@pytest.fixture
def sealed(project: Project) -> Project:
    """Commits 1 to 8 sealed by 9."""
    ingest(project, range(8))
    assert seal(project.store, at_least=3) is not None
    return project


def ingest(project: Project, numbers: range) -> None:
    """A commit of three events for each."""
    for number in numbers:
        project.write(f"{number:02}.jsonl", b'{"x": 1}\n' * 3)
        project.ingest()


def verify(project: Project) -> VerifyReport:
    """The proof of the stream."""
    return verify_stream(project.config(), "events")


def entry(project: Project, version: int) -> Path:
    """An entry in the log folder."""
    return project.table / layout.entry_name(version)


def test_entries_cut_off_are_named_though_a_segment_has_them(sealed: Project) -> None:
    """Everyone who opens the table would see an older one."""
    for version in (7, 8, 9):
        entry(sealed, version).unlink()
    (sealed.table / layout.LAST_CHECKPOINT).unlink()
    (sealed.table / layout.checkpoint_name(8)).unlink()
    report = verify(sealed)
    assert report.version == 6
    (damage,) = report.damages
    assert damage.name == layout.entry_name(7)
    assert "newest entries were cut off" in damage.reason
    assert "file:06.jsonl 0 to 2" in damage.affected
    assert "file:07.jsonl 0 to 2" in damage.affected
    assert "file:05.jsonl" not in damage.affected
    assert report.unreferenced == ()


def test_an_empty_log_folder_beside_segments_is_damage(sealed: Project) -> None:
    """It is no new table."""
    shutil.rmtree(sealed.table / layout.LOG_FOLDER)
    report = verify(sealed)
    assert [damage.name for damage in report.damages] == [layout.entry_name(0)]
    assert "is empty" in report.damages[0].reason


def test_a_segment_that_reaches_beyond_the_log_and_does_not_decode_is_damage(sealed: Project) -> None:
    """Whatever versions its name tells of."""
    name = layout.segment_name(12, 10**19, "0123456789abcdef")
    (sealed.table / name).write_bytes(b"x")
    assert [damage.name for damage in verify(sealed).damages] == [name]


def test_an_entry_that_no_earlier_seal_has_must_lie_in_the_log_folder(sealed: Project) -> None:
    """Delta's readers at the checkpoint before need it."""
    entry(sealed, 4).unlink()
    (damage,) = verify(sealed).damages
    assert damage.name == layout.entry_name(4)
    assert "Delta's readers need it" in damage.reason


def test_only_entries_of_an_earlier_seal_may_leave(sealed: Project) -> None:
    """The first one that the newest seal has sealed must stay."""
    ingest(sealed, range(10, 14))
    seal(sealed.store, at_least=3)
    left = [version for version in range(14) if not entry(sealed, version).exists()]
    assert left == list(range(9))
    assert verify(sealed).is_whole
    entry(sealed, 9).unlink()
    entry(sealed, 10).unlink()
    (damage,) = verify(sealed).damages
    assert damage.name == layout.entry_name(9)
    assert "all up to 10" in damage.reason
