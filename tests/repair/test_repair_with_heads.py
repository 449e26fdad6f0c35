"""What only a head can prove: the newest entries, and a log that is lost whole."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import ArchiveDamaged, UsageError
from event_archive.heads.head import read_head
from event_archive.repair.stream import NOT_REPAIRED
from tests.copying.copies import ingest_files, tree
from tests.repair.repairing import copy_of, flip, repaired, whole_needed

if TYPE_CHECKING:
    from tests.conftest import Project


def test_the_newest_entry_needs_a_head_or_its_own_hash(sealed: Project) -> None:
    """Damaged elsewhere than in its hash it tells itself what it was; else only a head can, and without one nothing is done."""
    whole = tree(sealed.store)
    version = read_snapshot(sealed.store).version
    path = sealed.table / layout.entry_name(version)
    head = read_head(sealed.store)
    flip(path, 700)
    assert repaired(sealed).is_whole
    assert tree(sealed.store) == whole
    at = whole[layout.entry_name(version)].index(b'entrySha256":"') + 20
    flip(path, at)
    damaged = tree(sealed.store)
    (item,) = repaired(sealed).items
    assert item.outcome == NOT_REPAIRED
    assert "--head FILE" in item.remark
    assert tree(sealed.store) == damaged
    assert repaired(sealed, heads=[head]).is_whole
    assert tree(sealed.store) == whole


def test_commits_that_were_cut_off_come_back_with_a_head(sealed: Project) -> None:
    """Entries and data files of the newest commits; without a head nobody can know of them."""
    whole = tree(sealed.store)
    head = read_head(sealed.store)
    for version in (head.version - 1, head.version):
        for file in next(c for c in iter_commits(copy_of(sealed)) if c.version == version).added:
            (sealed.table / file.path).unlink()
        (sealed.table / layout.entry_name(version)).unlink()
    assert repaired(sealed).items == ()
    report = repaired(sealed, heads=[head])
    assert report.is_whole
    assert len(report.items) == 4
    assert tree(sealed.store) == whole


def test_a_head_never_tells_to_replace_what_is_whole(project: Project) -> None:
    """An archive that has gone on differently since keeps its commits, whatever the head and the copy say."""
    ingest_files(project, 3)
    shutil.copytree(project.table, copy_of(project).folder)
    ingest_files(project, 1, first=3)
    shutil.rmtree(copy_of(project).folder)
    shutil.copytree(project.table, copy_of(project).folder)
    head = read_head(project.store)
    (project.table / layout.entry_name(4)).unlink()
    ingest_files(project, 1, first=3)
    before = tree(project.store)
    with pytest.raises(ArchiveDamaged, match="Nothing was repaired"):
        repaired(project, heads=[head])
    ingest_files(project, 1, first=4)
    with pytest.raises(ArchiveDamaged, match="Nothing was repaired"):
        repaired(project, heads=[head])
    assert {name: content for name, content in tree(project.store).items() if name in before} == before


def test_heads_of_another_table_are_refused(sealed: Project) -> None:
    """They would tell to replace everything."""
    head = read_head(sealed.store)
    other = type(head)(head.version, "0" * 64, "1" * 64, 0, 0, head.committed_at)
    with pytest.raises(UsageError, match="of another table"):
        repaired(sealed, heads=[other])


def test_a_log_that_is_lost_whole_comes_back_with_a_head(sealed: Project) -> None:
    """All entries and segments are gone, and one hash tells all of them."""
    head = read_head(sealed.store)
    whole = tree(sealed.store)
    shutil.rmtree(sealed.table / layout.LOG_FOLDER)
    shutil.rmtree(sealed.table / layout.OWN_FOLDER)
    report = repaired(sealed, heads=[head])
    assert report.is_whole
    assert {
        name: content for name, content in tree(sealed.store).items() if name in whole_needed(sealed)
    } == {name: content for name, content in whole.items() if name in whole_needed(sealed)}


def test_an_archive_without_any_log_is_nothing_to_repair(sealed: Project) -> None:
    """Without a head nothing tells what was there, and that must not pass for whole."""
    shutil.rmtree(sealed.table)
    with pytest.raises(UsageError, match="has no log at all"):
        repaired(sealed)
