"""What is damaged or missing is put back byte for byte, only ever with the hash that the log says, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.archive.history import log_versions
from event_archive.archive.log import seal_entry
from event_archive.archive.segments import segments_of
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import ArchiveDamaged
from event_archive.heads.head import document_of, encode_document, read_head
from event_archive.repair.stream import NOT_REPAIRED, REPAIRABLE, repair_stream
from event_archive.sealing import seal
from tests.copying.copies import ingest_files, tree
from tests.repair.repairing import copy_of, flip, repaired, whole_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Project


def test_nothing_is_done_to_an_archive_that_is_whole(sealed: Project) -> None:
    """No file is written, not even with the same bytes."""
    before = {file.name: (sealed.table / file.name).stat() for file in sealed.store.files()}
    report = repaired(sealed)
    assert report.items == ()
    assert report.is_whole
    assert report.files == 12
    assert {file.name: (sealed.table / file.name).stat().st_mtime_ns for file in sealed.store.files()} == {
        name: stat.st_mtime_ns for name, stat in before.items()
    }
    assert {file.name: (sealed.table / file.name).stat().st_ino for file in sealed.store.files()} == {
        name: stat.st_ino for name, stat in before.items()
    }


def damage_flip(path: Path) -> None:
    """A bit has changed."""
    flip(path, 300)


def damage_cut(path: Path) -> None:
    """The end is missing."""
    path.write_bytes(path.read_bytes()[:-7])


def damage_empty(path: Path) -> None:
    """Nothing is left but the name, as after a power cut."""
    path.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [damage_flip, damage_cut, damage_empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_an_archive_is_put_back(sealed: Project, damage: Callable[[Path], None]) -> None:
    """Data files, entries, segments, states, checkpoints and the pointer: after it all bytes are what they were."""
    whole = tree(sealed.store)
    newest = layout.entry_name(read_snapshot(sealed.store).version)
    head = read_head(sealed.store)
    for name in whole:
        damage(sealed.table / name)
        # Nothing in the archive tells which entry was the last.
        report = repaired(sealed, heads=[head] if name == newest else [])
        assert report.is_whole, (name, report.items)
        if (sealed.table / name).exists() or name in whole_needed(sealed):
            assert tree(sealed.store)[name] == whole[name], name
            assert [item.name for item in report.items] == [name]
        shutil.copy(copy_of(sealed).path(name), sealed.table / name)
    assert tree(sealed.store) == whole


def test_many_things_damaged_at_once_are_all_put_back(sealed: Project) -> None:
    """Half of the files are damaged in different ways, with the log among them."""
    whole = tree(sealed.store)
    head = read_head(sealed.store)
    chance = random.Random(4)
    for _ in range(10):
        damaged = chance.sample(sorted(whole), len(whole) // 2)
        for name in damaged:
            chance.choice(DAMAGES)(sealed.table / name)
        seen = repaired(sealed, heads=[head], dry_run=True)
        assert not seen.is_whole
        report = repaired(sealed, heads=[head])
        assert report.is_whole, report.items
        assert repaired(sealed, heads=[head]).items == ()
        now = tree(sealed.store)
        assert {name: now[name] for name in whole_needed(sealed)} == {
            name: whole[name] for name in whole_needed(sealed)
        }
        assert all(whole[name] == content for name, content in now.items())
        for name, content in whole.items():
            (sealed.table / name).write_bytes(content)


def test_a_dry_run_changes_nothing(sealed: Project) -> None:
    """It says what would be done, and does none of it."""
    flip(sealed.table / read_snapshot(sealed.store).files[3].path, 99)
    (sealed.table / layout.entry_name(11)).unlink()
    before = tree(sealed.store)
    report = repaired(sealed, dry_run=True)
    assert {item.outcome for item in report.items} == {REPAIRABLE}
    assert len(report.items) == 2
    assert not report.is_whole
    assert tree(sealed.store) == before


def test_a_copy_with_other_bytes_repairs_nothing(sealed: Project) -> None:
    """What a copy says counts only if its hash is the one that the log says."""
    file = read_snapshot(sealed.store).files[3].path
    flip(sealed.table / file, 99)
    flip(copy_of(sealed).path(file), 500)
    damaged = tree(sealed.store)
    for dry_run in (True, False):
        (item,) = repaired(sealed, dry_run=dry_run).items
        assert (item.name, item.outcome) == (file, NOT_REPAIRED)
        assert "has other bytes under that name too" in item.remark
        assert tree(sealed.store) == damaged


def test_an_entry_of_a_copy_that_has_changed_repairs_nothing(sealed: Project) -> None:
    """Not even one that is whole by itself: the entry after it was built on another."""
    name = layout.entry_name(11)
    flip(sealed.table / name, 99)
    lines = copy_of(sealed).read(name).splitlines()
    info = json.loads(lines[0])["commitInfo"]
    facts = {**info.pop("eventArchive"), "valueBytes": 1}
    del facts["entrySha256"]
    copy_of(sealed).path(name).write_bytes(seal_entry([json.loads(line) for line in lines[1:]], facts, info))
    damaged = tree(sealed.store)
    report = repaired(sealed)
    assert [item.outcome for item in report.items] == [NOT_REPAIRED]
    assert "has an entry with the SHA-256" in report.items[0].remark
    assert tree(sealed.store) == damaged


def test_an_edited_entry_with_its_checksum_made_right_is_put_back(sealed: Project) -> None:
    """Its own hash says that it is whole, and the entry after it says that it isn't the one that was there."""
    name = layout.entry_name(11)
    original = sealed.store.read(name)
    lines = original.splitlines()
    info = json.loads(lines[0])["commitInfo"]
    facts = {**info.pop("eventArchive"), "valueBytes": 1}
    del facts["entrySha256"]
    (sealed.table / name).write_bytes(seal_entry([json.loads(line) for line in lines[1:]], facts, info))
    assert repaired(sealed).is_whole
    assert sealed.store.read(name) == original


def test_two_files_that_were_swapped_are_put_back(sealed: Project) -> None:
    """Data files, and log entries."""
    whole = tree(sealed.store)
    first, second = (sealed.table / file.path for file in read_snapshot(sealed.store).files[2:4])
    for one, two in (
        (first, second),
        (sealed.table / layout.entry_name(11), sealed.table / layout.entry_name(12)),
    ):
        aside = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(aside)
    assert repaired(sealed).is_whole
    assert tree(sealed.store) == whole


def test_a_segment_is_made_again_from_entries(project: Project) -> None:
    """Of a copy that isn't sealed: the same entries, packed, have the hash that the log says."""
    ingest_files(project, 5)
    shutil.copytree(project.table, copy_of(project).folder)
    assert seal(project.store, at_least=3)
    ingest_files(project, 4, first=5)
    assert seal(project.store, at_least=3)
    first = segments_of(project.store)[0]
    whole = tree(project.store)
    flip(project.table / first.name, 200)
    (item,) = repaired(project).items
    assert (item.name, item.outcome) == (first.name, "repaired")
    assert tree(project.store) == whole


def test_states_and_checkpoints_need_no_copy(sealed: Project) -> None:
    """They are what the log adds up to, and computed from it to the last byte."""
    whole = tree(sealed.store)
    names = [
        n for n in whole if "/state-" in n or n.endswith(".checkpoint.parquet") or n == layout.LAST_CHECKPOINT
    ]
    assert len(names) == 5
    for name in names:
        flip(sealed.table / name, 50)
    report = repair_stream(sealed.store, other=None)
    assert report.is_whole
    assert len(report.items) == 5
    assert tree(sealed.store) == whole


def test_what_cannot_be_repaired_is_said_and_the_rest_is(sealed: Project) -> None:
    """One file is lost in the copy too; the others come back."""
    files = read_snapshot(sealed.store).files
    for number in (1, 2, 3):
        (sealed.table / files[number].path).unlink()
    copy_of(sealed).path(files[2].path).unlink()
    report = repaired(sealed)
    assert sorted(item.outcome for item in report.items) == [NOT_REPAIRED, "repaired", "repaired"]
    assert not report.is_whole
    assert not (sealed.table / files[2].path).exists()


def test_leftovers_stay(sealed: Project) -> None:
    """What belongs to no commit is none of a repair's business."""
    extra = sealed.table / "ingest_date=2026-01-01" / "commit-00000000000000000099-00.parquet"
    extra.parent.mkdir()
    extra.write_bytes(b"x")
    flip(sealed.table / read_snapshot(sealed.store).files[0].path, 9)
    assert repaired(sealed).is_whole
    assert extra.read_bytes() == b"x"


def test_the_command_names_each_file(sealed: Project) -> None:
    """Exit code 1 for a dry run with something to do and for what can't be repaired, 0 once all is whole, 2 for wrong usage."""
    file = read_snapshot(sealed.store).files[3].path
    newest = sealed.table / layout.entry_name(read_snapshot(sealed.store).version)
    (sealed.folder / "head.json").write_text(
        encode_document(document_of({"events": read_head(sealed.store)}))
    )
    assert sealed.run("repair", "events").returncode == 2
    assert sealed.run("repair", "nothing", "--from", "copy").returncode == 2
    flip(sealed.table / file, 99)
    newest.write_bytes(b"")
    look = sealed.run("repair", "events", "--from", "copy", "--dry-run")
    assert look.returncode == 1
    done = sealed.run("repair", "events", "--from", "copy", "--json")
    assert done.returncode == 1
    items = json.loads(done.stdout)["repair"]["items"]
    assert {item["name"]: item["outcome"] for item in items}[layout.entry_name(14)] == NOT_REPAIRED
    done = sealed.run("repair", "events", "--from", "copy", "--head", "head.json")
    assert done.returncode == 0, done.stderr
    assert (
        hashlib.sha256((sealed.table / file).read_bytes()).hexdigest()
        == read_snapshot(sealed.store).files[3].sha256
    )
    assert "Nothing is damaged" in sealed.run("repair", "events", "--from", "copy").stdout


def cut_off(project: Project, first: int) -> None:
    """Removes the newest entries from the log folder."""
    for version in log_versions(project.store):
        if version >= first:
            (project.table / layout.entry_name(version)).unlink()


@pytest.mark.parametrize("first", [4, 0])
def test_entries_that_only_a_segment_still_has_are_put_back(project: Project, first: int) -> None:
    """Those that follow on the newest one of the folder, or all if it is empty: the table opens again, up to what is known."""
    ingest_files(project, 5)
    assert seal(project.store, at_least=3)
    whole = tree(project.store)
    cut_off(project, first)
    with pytest.raises(ArchiveDamaged):
        read_snapshot(project.store)
    report = repair_stream(project.store)
    assert report.is_whole, report.items
    assert [item.name for item in report.items] == [layout.entry_name(v) for v in range(first, 6)]
    assert all("only a head tells whether more came after them" in item.remark for item in report.items)
    assert read_snapshot(project.store).version == 5
    assert tree(project.store) == {n: c for n, c in whole.items() if n != layout.entry_name(6)}
    assert repair_stream(project.store).items == ()


def test_a_leftover_segment_never_outvotes_an_entry_that_is_whole(project: Project) -> None:
    """The log went on differently after its end was lost: what was acknowledged then stays, damaged or not."""
    ingest_files(project, 8)
    assert seal(project.store, at_least=3)
    (leftover,) = segments_of(project.store)
    content = project.store.read(leftover.name)
    shutil.rmtree(project.table / layout.OWN_FOLDER)
    for path in project.table.glob("_delta_log/*checkpoint*"):
        path.unlink()
    cut_off(project, 7)
    ingest_files(project, 1, first=20)
    assert log_versions(project.store)[-1] == 7
    project.store.put_new(leftover.name, content)
    entries = {v: project.store.read(layout.entry_name(v)) for v in log_versions(project.store)}
    (item,) = repair_stream(project.store).items
    assert (item.name, item.outcome) == (leftover.name, NOT_REPAIRED)
    assert "move this file out of the archive" in item.remark
    assert {v: project.store.read(layout.entry_name(v)) for v in log_versions(project.store)} == entries
    newest = project.table / layout.entry_name(7)
    newest.write_bytes(newest.read_bytes()[:-9])
    damaged = newest.read_bytes()
    assert not repair_stream(project.store).is_whole
    assert newest.read_bytes() == damaged
    newest.write_bytes(entries[7])
    project.table.joinpath(leftover.name).unlink()
    ingest_files(project, 1, first=30)
    project.store.put_new(leftover.name, content)
    assert repair_stream(project.store).items == (), (
        "the log is longer than the leftover, which is none of its business"
    )
    newest = project.table / layout.entry_name(8)
    newest.write_bytes(b"")
    assert not repair_stream(project.store).is_whole
    assert newest.read_bytes() == b"", "what the leftover has was built on another entry"


def test_names_that_claim_absurd_versions_are_findings_and_no_loop(project: Project) -> None:
    """Of a segment, of an entry, and in a head."""
    ingest_files(project, 3)
    far = 10**19
    path = project.table / layout.segment_name(0, far, "0" * 64)
    path.parent.mkdir()
    path.write_bytes(b"x")
    (item,) = repair_stream(project.store).items
    assert (item.name, item.outcome) == (layout.segment_name(0, far, "0" * 64), NOT_REPAIRED)
    path.unlink()
    head = replace(read_head(project.store), version=far)
    report = repair_stream(project.store, heads=[head])
    assert [item.name for item in report.items] == [layout.entry_name(far - 1), layout.entry_name(far)]
    assert "all before it down to 4" in report.items[0].fault
    (project.table / layout.entry_name(far)).write_bytes(b"x")
    assert len(repair_stream(project.store).items) == 2
