"""A copy is the archive once more, byte for byte, at every moment an archive that was there once, and never a mixture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from event_archive import layout
from event_archive.archive.commit import Head, Replacement, commit_replacement
from event_archive.archive.data_file import DataFileWriter
from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.copying import copy_stream
from event_archive.heads.head import contains_head, read_head
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore
from event_archive.verify import verify_stream
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
    from collections.abc import Iterator

    from tests.conftest import Project


def test_a_copy_is_the_same_byte_for_byte_and_copying_again_moves_nothing(project: Project) -> None:
    """All files are there with their bytes, the head of the source is in it, and the second copy has nothing to do."""
    ingest_files(project, 3)
    result = copied(project)
    assert tree(target_of(project)) == tree(project.store)
    assert (result.version, result.commits, result.files) == (3, 4, 3)
    assert result.bytes == sum(len(content) for content in tree(project.store).values())
    assert contains_head(target_of(project), read_head(project.store)) is None
    again = copied(project)
    assert (again.commits, again.files, again.bytes) == (0, 0, 0)
    assert tree(target_of(project)) == tree(project.store)


def test_only_what_is_new_is_copied(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an archive that has grown, the files of the new commits are read, and no others."""
    ingest_files(project, 3)
    copied(project)
    ingest_files(project, 2, first=3)
    read: list[str] = []
    chunks = FolderStore.chunks

    def noted(store: FolderStore, name: str) -> Iterator[bytes]:
        read.append(name)
        return chunks(store, name)

    monkeypatch.setattr(FolderStore, "chunks", noted)
    result = copied(project)
    assert (result.commits, result.files) == (2, 2)
    assert sorted(read) == sorted(file.path for file in read_snapshot(project.store).files[3:])
    assert tree(target_of(project)) == tree(project.store)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_wherever_a_copy_stops_the_target_is_whole_and_the_next_goes_on(
    project: Project, *, is_sealed: bool
) -> None:
    """A disk that fails at any call leaves an archive that was there once; the copy after it ends as one that never stopped."""
    if is_sealed:
        ingest_files(project, 2)
        copied(project)  # entries that have left the source's log folder by the next copy
        sealed_project(project)
    else:
        ingest_files(project, 4)
    start = tree(target_of(project))
    calls = len(copy_to(project, start, fail_at=-1).calls)
    assert calls > 8
    history = list(iter_commits(project.store))
    for number in range(calls):
        stopped = copy_to(project, start, fail_at=number)
        assert_whole(stopped)
        there = list(iter_commits(stopped))
        assert there == history[: len(there)]
        if there and number > calls - 2:
            assert DeltaTable(stopped.folder).version() == there[-1].version
        copy_stream(project.store, FolderStore(stopped.folder))
        assert tree(stopped) == tree(project.store), f"after a stop at call {number}: {stopped.calls}"


def test_a_file_is_there_before_the_entry_that_names_it(project: Project) -> None:
    """In the order of the calls, each data file and each file of a seal comes before its commit."""
    sealed_project(project)
    target = copy_to(project, {}, fail_at=-1)
    calls = {call: number for number, call in enumerate(target.calls)}
    segments = [
        (layout.segment_range(call.rpartition("/")[2]), number)
        for call, number in calls.items()
        if "/entries-" in call
    ]
    for commit in iter_commits(project.store):
        shown = [calls.get(f"put {layout.entry_name(commit.version)}", len(calls))]
        shown += [number for span, number in segments if span and span[0] <= commit.version <= span[1]]
        for file in commit.added:
            assert calls[f"restore {file.path}"] < min(shown)
        if commit.sealed and f"put {commit.sealed.state}" in calls:
            assert calls[f"put {commit.sealed.state}"] < min(shown)
            assert calls[f"put {commit.sealed.checkpoint}"] < min(shown)


def test_a_copy_is_a_working_archive(project: Project) -> None:
    """It is verified, and ingested into: it knows what is archived, and goes on."""
    ingest_files(project, 3)
    copied(project)
    text = project.config_file.read_text().replace("archive: archive", "archive: copy")
    project.config_file.write_text(text)
    assert project.ingest().events == 0, "nothing is archived twice"
    ingest_files(project, 1, first=3)
    report = verify_stream(project.config(), "events")
    assert report.is_whole
    assert (report.events, report.commits) == (10, 5)


def test_wrong_bytes_under_the_name_of_a_file_are_no_reason_to_skip_it(project: Project) -> None:
    """A file without a commit is read before it counts as copied: the right one stays, another is replaced."""
    ingest_files(project, 2)
    first, second = read_snapshot(project.store).files
    for file, content in ((first, project.store.read(first.path)), (second, b"x" * second.size_bytes)):
        path = target_of(project).path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    result = copied(project)
    assert (result.files, result.files_there) == (1, 1)
    assert tree(target_of(project)) == tree(project.store)


def test_a_source_that_grows_meanwhile_is_copied_as_it_was(project: Project) -> None:
    """Commits and seals that come during a copy are for the next one."""
    ingest_files(project, 5)
    grown: list[int] = []

    def grow(_done: int, _total: int) -> None:
        if not grown:
            grown.append(1)
            ingest_files(project, 2, first=5)
            seal(project.store, at_least=3)
            ingest_files(project, 2, first=7)
            seal(project.store, at_least=3)

    pinned = read_head(project.store)
    result = copy_stream(project.store, target_of(project), on_progress=grow)
    assert grown
    assert result.version == pinned.version == read_head(target_of(project)).version
    assert_whole(target_of(project))
    assert contains_head(target_of(project), pinned) is None
    copied(project)
    assert tree(target_of(project)) == tree(project.store)


def test_files_that_compaction_replaced_are_copied_while_they_are_there(project: Project) -> None:
    """The log names them, so the copy has them until `clean` removes them; when they are gone, it can do without."""
    ingest_files(project, 2)
    snapshot = read_snapshot(project.store)
    writer = DataFileWriter(
        project.store, layout.compacted_file_name(layout.ingest_date_of(snapshot.files[0].path), "00")
    )
    for file in snapshot.files:
        writer.write_row_group(pq.ParquetFile(project.table / file.path).read())
        writer.end_span()
    replacement = Replacement(snapshot.files, (writer.finish(),))
    commit_replacement(project.store, Head(snapshot.version, snapshot.chain_hash), replacement)
    copied(project)
    assert tree(target_of(project)) == tree(project.store)
    (project.table / snapshot.files[0].path).unlink()
    other = FolderStore(project.folder / "other" / "events")
    result = copy_stream(project.store, other)
    assert (result.files, result.files_gone) == (2, 1)
    assert_whole(other)
    assert tree(other) == tree(project.store)


def test_read_only_files_are_copied_into_read_only_files(project: Project) -> None:
    """Write protection at both ends keeps nothing from working."""
    project.config_file.write_text("read_only_files: true\n" + project.config_file.read_text())
    ingest_files(project, 4)
    seal(project.config().table("events"), at_least=3)
    target = FolderStore(target_of(project).folder, read_only_files=True)
    copy_stream(project.store, target)
    ingest_files(project, 2, first=4)
    seal(project.config().table("events"), at_least=2)
    copy_stream(project.store, target)
    assert tree(target) == tree(project.store)
    assert all(not target.path(file.name).stat().st_mode & 0o222 for file in target.files())


def test_the_command_copies_without_a_configuration(project: Project) -> None:
    """`copy SRC DST` needs two places; it prints what it did, and says when nothing was new."""
    ingest_files(project, 2)
    project.config_file.rename(project.folder / "elsewhere.yaml")
    environment = {name: value for name, value in os.environ.items() if name != "EVENT_ARCHIVE_CONFIG"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "event_archive", "copy", *arguments]
        return subprocess.run(
            command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False
        )

    done = run("archive", "copy", "--json")
    assert done.returncode == 0, done.stderr
    (stream,) = json.loads(done.stdout)["streams"]
    assert (stream["stream"], stream["commits"], stream["files"]) == ("events", 3, 2)
    again = run("archive", "copy")
    assert again.returncode == 0
    assert "Nothing was new" in again.stdout
    assert tree(target_of(project)) == tree(project.store)
    wrong = run("archive", "copy", "nothing")
    assert wrong.returncode == 2
    assert "has no stream 'nothing'" in wrong.stderr
    assert run("nowhere", "copy").returncode == 2
    assert run("archive", "archive").returncode == 2
