"""Copies of archives that seal: whole segments, and never one beside entries that contradict it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from event_archive import copying, layout
from event_archive.archive.history import iter_commits, log_versions, newest_version
from event_archive.archive.log import seal_entry
from event_archive.archive.segments import segments_of
from event_archive.archive.snapshot import read_snapshot
from event_archive.copying import copy_stream
from event_archive.diverged import CopyRefused
from event_archive.errors import ArchiveDamaged
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore
from tests.copying.copies import (
    assert_whole,
    copied,
    copy_to,
    ingest_files,
    sealed_project,
    target_of,
    tree,
)

if TYPE_CHECKING:
    from tests.conftest import Project


def test_a_sealed_archive_is_copied_with_its_segments(project: Project) -> None:
    """What the source has sealed away is in the copy in the same files, and Delta's readers see the same table."""
    sealed_project(project)
    copied(project)
    assert tree(target_of(project)) == tree(project.store)
    assert list(iter_commits(target_of(project))) == list(iter_commits(project.store))
    table = DeltaTable(target_of(project).folder)
    assert table.version() == read_snapshot(project.store).version
    assert table.to_pyarrow_dataset().count_rows() == sum(range(1, 15))
    assert copied(project).bytes == 0


@pytest.mark.parametrize("copied_before", [1, 2, 5, 6, 7, 8, 9])
def test_a_copy_follows_a_source_that_seals(project: Project, copied_before: int) -> None:
    """Whenever the last copy was made, the next one ends with the same files, and lets go of the same."""
    for number in range(9):
        if number == copied_before:
            copied(project)
        ingest_files(project, 1, first=number)
        if number % 3 == 2:
            seal(project.store, at_least=3)
    copied(project)
    assert tree(target_of(project)) == tree(project.store)
    assert DeltaTable(target_of(project).folder).to_pyarrow_dataset().count_rows() == sum(range(1, 10))
    assert copied(project).bytes == 0


def test_entries_stay_at_a_target_that_has_lost_their_segment(project: Project) -> None:
    """What the source has sealed away leaves the target only if the target has it sealed as well."""
    ingest_files(project, 5)
    assert seal(project.store, at_least=3)
    copied(project)
    (segment,) = target_of(project).folder.rglob("entries-*")
    segment.unlink()
    ingest_files(project, 5, first=5)
    assert seal(project.store, at_least=3)
    copied(project)
    assert list(iter_commits(target_of(project))) == list(iter_commits(project.store))


def sealed_beyond(project: Project, copied_before: int) -> None:
    """A copy with some commits, of a source that has sealed others since and has let go of their entries."""
    ingest_files(project, copied_before)
    copied(project)
    seal(project.store, at_least=2)
    for first in (20, 30, 40):
        ingest_files(project, 3, first=first)
        assert seal(project.store, at_least=3)
    assert log_versions(project.store)[0] > copied_before + 3


def test_a_segment_is_never_put_beside_entries_that_contradict_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that comes while data files are copied stays, and nothing in the target says otherwise."""
    sealed_beyond(project, 3)
    foreign = seal_entry([], {"previousEntrySha256": "0", "format": 2, "version": 4}, {"operation": "WRITE"})
    copy_files = copying._Copying._copy_files

    def with_another(self: copying._Copying, *arguments: Any) -> None:
        copy_files(self, *arguments)
        target_of(project).put_new(layout.entry_name(4), foreign)

    monkeypatch.setattr(copying._Copying, "_copy_files", with_another)
    with pytest.raises(CopyRefused, match="from commit 4 on"):
        copied(project)
    assert target_of(project).read(layout.entry_name(4)) == foreign
    assert all(segment.last <= 4 for segment in segments_of(target_of(project)))


def test_wrong_bytes_under_the_name_of_what_a_seal_names_are_replaced(project: Project) -> None:
    """Segments, states and checkpoints are read before they count as copied."""
    sealed_beyond(project, 2)
    for name, content in tree(project.store).items():
        if name.startswith(f"{layout.OWN_FOLDER}/") or name.endswith(".checkpoint.parquet"):
            path = target_of(project).path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[:-1])
    copied(project)
    assert tree(target_of(project)) == {
        name: content for name, content in tree(project.store).items() if name in tree(target_of(project))
    }
    assert_whole(target_of(project))


def test_a_first_copy_that_stops_among_segments_goes_on(project: Project) -> None:
    """Until it has ended the target opens for nobody as a shorter archive."""
    sealed_beyond(project, 2)
    shutil.rmtree(target_of(project).folder)
    calls = copy_to(project, {}, fail_at=-1).calls
    for number in range(len(calls)):
        stopped = copy_to(project, {}, fail_at=number)
        if segments_of(stopped) and segments_of(stopped)[-1].last > newest_version(stopped):
            with pytest.raises(ArchiveDamaged, match="a copy that hasn't ended"):
                read_snapshot(stopped)
        copy_stream(project.store, FolderStore(stopped.folder))
        assert tree(stopped) == tree(project.store)
