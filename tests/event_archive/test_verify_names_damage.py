"""Whatever is done to an archive's files, `verify` names the file and exits with 1."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.archive.log import seal_entry
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import ArchiveDamaged
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Project

FLIPS = 200


@pytest.fixture
def archived(project: Project) -> Project:
    """A project whose archive has some commits, files that grew, and blank lines."""
    project.configure(stream="commit_bytes: 30000")
    for number in range(6):
        project.write(
            f"{number}.jsonl", b"".join(b'{"n": %d}\n\n' % n for n in range(number * 100, number * 100 + 900))
        )
    project.ingest()
    for number in range(3):
        with (project.landing / f"{number}.jsonl").open("ab") as file:
            file.write(b"more\n" * 50)
    project.ingest()
    assert verify_stream(project.config(), "events").is_whole
    return project


def all_files(project: Project) -> list[Path]:
    """Every file of the table."""
    return sorted(path for path in project.table.rglob("*") if path.is_file())


def damaged_paths(project: Project) -> set[str]:
    """The files that `verify` names."""
    return {damage.path for damage in verify_stream(project.config(), "events").damages}


def test_any_flipped_byte_is_found_and_its_file_named(archived: Project) -> None:
    """At random places of data files and log entries, each kind as often."""
    generator = random.Random(17)
    entries = [path for path in all_files(archived) if path.suffix == ".json"]
    data = [path for path in all_files(archived) if path.suffix == ".parquet"]
    for flip in range(FLIPS):
        path = generator.choice(entries if flip % 2 else data)
        content = path.read_bytes()
        place = generator.randrange(len(content))
        path.write_bytes(
            content[:place] + bytes([content[place] ^ (1 << generator.randrange(8))]) + content[place + 1 :]
        )
        assert str(path) in damaged_paths(archived), (
            f"flip {flip} at byte {place} of {path.name} was not found"
        )
        path.write_bytes(content)
    assert damaged_paths(archived) == set()


def test_the_command_names_the_file_and_what_is_affected(archived: Project) -> None:
    """On stderr for people, in JSON for programs, with exit code 1."""
    path = next(path for path in all_files(archived) if path.suffix == ".parquet")
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    shown = archived.run("verify")
    assert shown.returncode == 1
    assert str(path) in shown.stderr
    assert "file:0.jsonl 0 to" in shown.stderr
    report = json.loads(archived.run("verify", "--json").stdout)
    assert report["is_whole"] is False
    assert report["streams"][0]["damages"][0]["path"] == str(path)
    path.write_bytes(content)
    assert archived.run("verify").returncode == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\n"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["dropped", "emptied", "cut", "lengthened", "a folder"],
)
@pytest.mark.parametrize("kind", [".json", ".parquet"])
def test_a_missing_or_cut_file_is_named(
    archived: Project, kind: str, damage: Callable[[Path], object]
) -> None:
    """Data files and log entries, but for the newest entry: cutting off the end can't be seen from inside."""
    files = [path for path in all_files(archived) if path.suffix == kind]
    path = files[len(files) // 2]
    damage(path)
    assert str(path) in damaged_paths(archived)


def test_swapped_files_are_named(archived: Project) -> None:
    """Both."""
    first, second, *_ = (path for path in all_files(archived) if path.suffix == ".parquet")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert {str(first), str(second)} <= damaged_paths(archived)


def test_an_edited_entry_with_its_own_hash_made_right_is_named(archived: Project) -> None:
    """The successor knows better."""
    path = archived.table / layout.entry_name(2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    info = lines[0]["commitInfo"]
    facts = info.pop("eventArchive")
    del facts["entrySha256"]
    facts["ingestedAtUs"] += 1
    path.write_bytes(seal_entry(lines[1:], facts, info))
    assert str(path) in damaged_paths(archived)
    with pytest.raises(ArchiveDamaged, match="log entry 3 was built on another entry 2"):
        read_snapshot(archived.store)


def test_a_path_that_leads_out_of_the_table_is_refused(archived: Project) -> None:
    """Neither read nor followed, whoever wrote it."""
    newest = max((archived.table / layout.LOG_FOLDER).glob("*.json"))
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    info = lines[0]["commitInfo"]
    facts = info.pop("eventArchive")
    del facts["entrySha256"]
    add = next(line["add"] for line in lines if "add" in line)
    for bad in ("../../outside.parquet", "/etc/passwd", "a/%2e%2e/%2e%2e/b.parquet", "file:///etc/passwd"):
        facts["files"] = {bad: next(iter(facts["files"].values()))}
        add["path"] = bad
        newest.write_bytes(seal_entry(lines[1:], facts, info))
        assert str(newest) in damaged_paths(archived)
        with pytest.raises(ArchiveDamaged, match="not a path inside the table"):
            read_snapshot(archived.store).file_paths()


def test_an_empty_or_broken_newest_entry_is_an_error_at_every_open(archived: Project) -> None:
    """Delta's readers take an entry of 0 bytes, as a power cut leaves it, for an empty commit: a silent loss."""
    newest = max((archived.table / layout.LOG_FOLDER).glob("*.json"))
    whole = newest.read_bytes()
    edited = whole.replace(b'"valueBytes":', b'"valueBytes":1')
    for content in (b"", whole[:-20], b"{}\n", b"\0" * 500, edited):
        newest.write_bytes(content)
        with pytest.raises(ArchiveDamaged, match=newest.name):
            read_snapshot(archived.store)
        for command in (["ingest"], ["status"], ["sql", "select 1"], ["verify"]):
            done = archived.run(*command)
            assert done.returncode == 1, command
            assert newest.name in done.stderr
            assert "Traceback" not in done.stderr


def test_positions_are_held_against_the_rows(archived: Project) -> None:
    """A commit that claims other offsets than its file holds is named, although every hash is right."""
    path = archived.table / layout.entry_name(1)
    newer = [archived.table / layout.entry_name(version) for version in range(2, 100)]
    for entry in newer:
        entry.unlink(missing_ok=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    info = lines[0]["commitInfo"]
    facts = info.pop("eventArchive")
    del facts["entrySha256"]
    facts["positions"]["source_id"][0] = "file:other.jsonl"
    path.write_bytes(seal_entry(lines[1:], facts, info))
    report = verify_stream(archived.config(), "events")
    assert "source_id" in str(report.damages[0])


def test_unreferenced_files_are_harmless(archived: Project) -> None:
    """As an interrupted write leaves them."""
    some = next(path for path in all_files(archived) if path.suffix == ".parquet")
    shutil.copy(some, some.with_name("left-over.parquet"))
    (archived.table / layout.LOG_FOLDER / layout.pending_name("0")).write_bytes(b"{")
    report = verify_stream(archived.config(), "events")
    assert report.is_whole
    assert len(report.unreferenced) == 2
    assert archived.run("verify").returncode == 0


def test_a_stream_without_a_table_is_whole(project: Project) -> None:
    """There is nothing to be damaged."""
    assert verify_stream(project.config(), "events").is_whole
