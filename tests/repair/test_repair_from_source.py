"""A lost data file is made again from the landing files, byte for byte, or it is said why not."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from event_archive import appending, layout
from event_archive.archive import data_file
from event_archive.archive.commit import Head, Replacement, commit_replacement
from event_archive.archive.data_file import DataFileWriter
from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.repair.source import SourceFiles
from event_archive.repair.stream import NOT_REPAIRED, REPAIRED, repair_stream
from event_archive.sources.files import ingest as files_ingest

if TYPE_CHECKING:
    import pytest

    from event_archive.repair.stream import RepairItem
    from tests.conftest import Project


def lines(count: int, text: str = "x") -> bytes:
    """Some events."""
    return b"".join(b'{"n": %d, "text": "%s"}\n' % (n, text.encode() * (n % 50)) for n in range(count))


def repaired(project: Project) -> list[RepairItem]:
    """Repairs the stream from its source."""
    source = SourceFiles(project.config(), "events")
    return list(repair_stream(project.store, source=source).items)


def all_lost(project: Project) -> dict[str, bytes]:
    """Removes all data files; gives what they were."""
    whole = {file.path: project.store.read(file.path) for file in read_snapshot(project.store).files}
    for name in whole:
        (project.table / name).unlink()
    return whole


def assert_back(project: Project, whole: dict[str, bytes]) -> None:
    """All of these files are what they were."""
    for name, content in whole.items():
        assert (
            hashlib.sha256((project.table / name).read_bytes()).digest() == hashlib.sha256(content).digest()
        )


def test_files_of_many_commits_are_made_again(project: Project) -> None:
    """Files that grew between commits, that have blank lines, that are compressed, that end without a line end."""
    project.write("a/grows.jsonl", lines(100))
    project.write("b.jsonl.gz", gzip.compress(lines(30, "y")))
    project.ingest()
    project.write("a/grows.jsonl", lines(100) + b"\n\n" + lines(40, "z"))
    project.write("c with \xe4 name.jsonl", b'{"last": 1}\n{"last": 2}')
    project.ingest(settled=True)
    project.write("a/grows.jsonl", lines(100) + b"\n\n" + lines(40, "z") + lines(5, "w"))
    project.ingest()
    whole = all_lost(project)
    assert len(whole) == 3
    assert {item.outcome for item in repaired(project)} == {REPAIRED}
    assert_back(project, whole)
    assert repaired(project) == []


def test_a_file_of_several_row_groups_is_made_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row groups end where they ended, however the blocks that were read lay then."""
    monkeypatch.setattr(files_ingest, "ROW_GROUP_ROWS", 700)
    monkeypatch.setattr(appending, "ROW_GROUP_ROWS", 700)
    monkeypatch.setattr(files_ingest, "_BLOCK_BYTES", 10_000)
    for number in range(5):
        project.write(f"{number}.jsonl", lines(1000 + number, "ab"))
    project.ingest()
    groups = [commit.row_groups for commit in iter_commits(project.store) if commit.row_groups]
    assert len(groups[0]) > 3
    monkeypatch.undo()
    whole = all_lost(project)
    assert [item.outcome for item in repaired(project)] == [REPAIRED]
    assert_back(project, whole)


def test_many_small_files_in_one_commit_are_made_again(project: Project) -> None:
    """Each source id is numbered in the file as it was."""
    for number in range(300):
        project.write(f"{number % 7}/{number}.jsonl", lines(number % 5 + 1))
    project.ingest()
    whole = all_lost(project)
    assert [item.outcome for item in repaired(project)] == [REPAIRED]
    assert_back(project, whole)


def test_landing_files_that_changed_or_are_gone_are_named_and_the_rest_is_made_again(
    project: Project,
) -> None:
    """Each data file has a sentence of its own, and only whole ones are put back."""
    for name in ("changed", "gone", "shorter", "same"):
        project.write(f"{name}.jsonl", lines(10))
        project.ingest()
    whole = all_lost(project)
    project.write("changed.jsonl", lines(10).replace(b'"n": 3', b'"n": 4'))
    project.write("shorter.jsonl", lines(4))
    (project.landing / "gone.jsonl").unlink()
    items = repaired(project)
    remarks = {item.name: (item.outcome, item.remark) for item in items}
    changed, gone, shorter, same = (remarks[name] for name in whole)
    assert changed[0] == gone[0] == shorter[0] == NOT_REPAIRED
    assert same[0] == REPAIRED
    assert "changed.jsonl has other events now at offsets 0 to 9" in changed[1]
    assert "gone.jsonl is not in the landing folder any more" in gone[1]
    assert "shorter.jsonl has 4 records now, and 10 of it were archived" in shorter[1]
    assert [(project.table / name).exists() for name in whole] == [False, False, False, True]


def test_a_file_that_has_grown_since_gives_what_was_archived_of_it(project: Project) -> None:
    """Appended lines are no change."""
    project.write("a.jsonl", lines(10))
    project.ingest()
    whole = all_lost(project)
    project.write("a.jsonl", lines(10) + lines(90, "new"))
    assert [item.outcome for item in repaired(project)] == [REPAIRED]
    assert_back(project, whole)


def test_other_bytes_of_the_same_events_are_not_put_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that writes Parquet differently is told from a changed source, by the row digests."""
    project.write("a.jsonl", lines(1000))
    project.ingest()
    all_lost(project)
    monkeypatch.setattr(data_file, "_DICTIONARY_COLUMNS", ["source_id"])
    (item,) = repaired(project)
    assert item.outcome == NOT_REPAIRED
    assert "the source still has all of its events, as their row digests prove" in item.remark
    assert not (project.table / item.name).exists()


def test_what_compaction_made_cannot_be_made_from_the_source(project: Project) -> None:
    """It is said, with what can be done."""
    for number in range(2):
        project.write(f"{number}.jsonl", lines(10))
        project.ingest()
    snapshot = read_snapshot(project.store)
    name = layout.compacted_file_name(layout.ingest_date_of(snapshot.files[0].path), "00")
    writer = DataFileWriter(project.store, name)
    for file in snapshot.files:
        writer.write_row_group(pq.ParquetFile(project.table / file.path).read())
        writer.end_span()
    replacement = Replacement(snapshot.files, (writer.finish(),))
    commit_replacement(project.store, Head(snapshot.version, snapshot.chain_hash), replacement)
    (project.table / name).unlink()
    (item,) = repaired(project)
    assert item.outcome == NOT_REPAIRED
    assert "made by compaction" in item.remark
    assert "--from OTHER_ARCHIVE" in item.remark


def test_the_command_reads_the_source_again(project: Project) -> None:
    """`--from-source` alone, and beside a copy that doesn't have the file."""
    project.write("a.jsonl", lines(10))
    project.ingest()
    whole = all_lost(project)
    done = project.run("repair", "events", "--from-source", "--from", "nowhere")
    assert done.returncode == 0, done.stderr
    assert "from the source" in done.stdout
    assert_back(project, whole)
