"""What a copy refuses: a target that is no copy of the source, and whatever is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.archive.log import seal_entry
from event_archive.archive.snapshot import read_snapshot
from event_archive.copying import copy_stream
from event_archive.diverged import CopyRefused
from event_archive.errors import ArchiveDamaged
from event_archive.storage.folder import FolderStore
from tests.copying.copies import (
    assert_whole,
    copied,
    ingest_files,
    target_of,
    tree,
)

if TYPE_CHECKING:
    from tests.conftest import Project


def test_a_target_that_went_on_differently_is_left_as_it_is(project: Project) -> None:
    """The first commit that differs is named, and not a byte changes."""
    ingest_files(project, 3)
    copied(project)
    ingest_files(project, 2, first=3)
    other = project.config_file.read_text().replace("archive: archive", "archive: copy")
    mine = project.config_file.read_text()
    project.config_file.write_text(other)
    project.ingest()
    project.config_file.write_text(mine)
    before = tree(target_of(project))
    with pytest.raises(CopyRefused, match="from commit 4 on"):
        copied(project)
    assert tree(target_of(project)) == before


def test_a_target_with_more_commits_is_left_as_it_is(project: Project) -> None:
    """Copying the wrong way round loses nothing."""
    ingest_files(project, 3)
    copied(project)
    ingest_files(project, 2, first=3)
    before = tree(project.store)
    with pytest.raises(CopyRefused, match=r"has 2 commits that .* doesn't have, the first being commit 4"):
        copy_stream(target_of(project), project.store)
    assert tree(project.store) == before


def test_a_target_that_is_another_table_is_left_as_it_is(project: Project) -> None:
    """Two tables with the same events were created by different commits."""
    ingest_files(project, 2)
    mine = project.config_file.read_text()
    project.config_file.write_text(mine.replace("archive: archive", "archive: copy"))
    project.ingest()
    project.config_file.write_text(mine)
    before = tree(target_of(project))
    with pytest.raises(CopyRefused, match="is another table"):
        copied(project)
    assert tree(target_of(project)) == before


@pytest.mark.parametrize("whose", ["source", "target"])
def test_a_damaged_log_is_neither_copied_nor_built_upon(project: Project, whose: str) -> None:
    """A flipped bit in an entry of either stops the copy, and the text says whose entry it is."""
    ingest_files(project, 3)
    copied(project)
    ingest_files(project, 1, first=3)
    store = project.store if whose == "source" else target_of(project)
    path = Path(store.place(layout.entry_name(2)))
    entry = bytearray(path.read_bytes())
    entry[len(entry) // 2] ^= 4
    path.write_bytes(entry)
    before = tree(target_of(project))
    with pytest.raises(ArchiveDamaged, match=str(path)):
        copied(project)
    assert tree(target_of(project)) == before


def test_a_file_that_is_damaged_at_the_source_never_gets_its_name_at_the_target(project: Project) -> None:
    """The copy stops before the commit of that file, and what was copied is whole."""
    ingest_files(project, 4)
    file = read_snapshot(project.store).files[2]
    path = project.table / file.path
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveDamaged, match=file.path):
        copied(project)
    assert not target_of(project).path(file.path).exists()
    assert_whole(target_of(project))
    content[100] ^= 1
    path.write_bytes(content)
    copied(project)
    assert tree(target_of(project)) == tree(project.store)


def test_a_file_that_is_missing_at_the_source_stops_the_copy(project: Project) -> None:
    """An archive with a hole isn't copied as if it were whole."""
    ingest_files(project, 3)
    file = read_snapshot(project.store).files[1]
    (project.table / file.path).unlink()
    with pytest.raises(ArchiveDamaged, match=f"{file.path}: is missing"):
        copied(project)
    assert_whole(target_of(project))


def test_a_commit_that_gets_in_the_way_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer at the target that commits during the copy keeps its commit, and the copy ends with its name."""
    ingest_files(project, 3)
    put_new = FolderStore.put_new
    foreign = seal_entry([], {"previousEntrySha256": "0", "format": 2, "version": 2}, {"operation": "WRITE"})

    def put_after_another(store: FolderStore, name: str, content: bytes) -> bool:
        if name == layout.entry_name(2):
            put_new(store, name, foreign)
        return put_new(store, name, content)

    monkeypatch.setattr(FolderStore, "put_new", put_after_another)
    with pytest.raises(CopyRefused, match="from commit 2 on"):
        copied(project)
    assert target_of(project).read(layout.entry_name(2)) == foreign
