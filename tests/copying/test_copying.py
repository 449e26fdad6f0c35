"""A copy is the archive once more, byte for byte, at every moment an archive that was there once, and never a mixture."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from event_archive import copying, layout
from event_archive.archive.commit import Head, Replacement, commit_replacement
from event_archive.archive.data_file import DataFileWriter
from event_archive.archive.history import iter_commits, log_versions, newest_version
from event_archive.archive.log import seal_entry
from event_archive.archive.segments import segments_of
from event_archive.archive.snapshot import read_snapshot
from event_archive.copying import CopyRefused, copy_stream
from event_archive.errors import ArchiveDamaged, StorageError
from event_archive.heads.head import contains_head, read_head
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from event_archive.copying import CopyResult
    from event_archive.storage.store import Store
    from tests.conftest import Project


def ingest_files(project: Project, count: int, *, first: int = 0) -> None:
    """One commit a file."""
    for number in range(first, first + count):
        project.write(f"{number}.jsonl", b"".join(b'{"n": %d}\n' % i for i in range(number + 1)))
        project.ingest()


def target_of(project: Project) -> FolderStore:
    """Where the copy of the stream's table goes."""
    return FolderStore(project.folder / "copy" / "events")


def copied(project: Project) -> CopyResult:
    """Copies the stream."""
    return copy_stream(project.store, target_of(project))


def tree(store: Store) -> dict[str, bytes]:
    """All that a place holds."""
    return {file.name: store.read(file.name) for file in store.files()}


def assert_whole(store: Store) -> None:
    """Every entry is proved, and every file that is part of the table is there and has the bytes that the log says."""
    list(iter_commits(store))
    for file in read_snapshot(store).files:
        assert hashlib.sha256(store.read(file.path)).hexdigest() == file.sha256, file.path


class Failing(FolderStore):
    """A folder whose disk fails at a chosen call that changes something."""

    def __init__(self, folder: Path, fail_at: int) -> None:
        """Fails at no call if `fail_at` is negative."""
        super().__init__(folder)
        self.calls: list[str] = []
        self.fail_at = fail_at

    def _count(self, call: str) -> None:
        if len(self.calls) == self.fail_at:
            raise StorageError("the disk is gone")
        self.calls.append(call)

    def put_new(self, name: str, content: bytes) -> bool:
        """Counted."""
        self._count(f"put {name}")
        return super().put_new(name, content)

    def restore(self, name: str, content: Iterable[bytes], *, sha256: str) -> None:
        """Counted."""
        self._count(f"restore {name}")
        super().restore(name, content, sha256=sha256)

    def delete(self, name: str) -> None:
        """Counted."""
        self._count(f"delete {name}")
        super().delete(name)


def sealed_project(project: Project) -> None:
    """Makes a table with two seals, entries that left the log folder, and entries after both."""
    ingest_files(project, 6)
    assert seal(project.store, at_least=3)
    ingest_files(project, 5, first=6)
    assert seal(project.store, at_least=3)
    ingest_files(project, 3, first=11)
    assert log_versions(project.store)[0] > 0


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
    calls = len(_copy_to(project, start, fail_at=-1).calls)
    assert calls > 8
    history = list(iter_commits(project.store))
    for number in range(calls):
        stopped = _copy_to(project, start, fail_at=number)
        assert_whole(stopped)
        there = list(iter_commits(stopped))
        assert there == history[: len(there)]
        if there and number > calls - 2:
            assert DeltaTable(stopped.folder).version() == there[-1].version
        copy_stream(project.store, FolderStore(stopped.folder))
        assert tree(stopped) == tree(project.store), f"after a stop at call {number}: {stopped.calls}"


def _copy_to(project: Project, start: dict[str, bytes], *, fail_at: int) -> Failing:
    target = Failing(project.folder / f"copy{fail_at}" / "events", fail_at)
    for name, content in start.items():
        path = target.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if fail_at < 0:
        copy_stream(project.store, target)
    else:
        with pytest.raises(StorageError):
            copy_stream(project.store, target)
    return target


def test_a_file_is_there_before_the_entry_that_names_it(project: Project) -> None:
    """In the order of the calls, each data file and each file of a seal comes before its commit."""
    sealed_project(project)
    target = _copy_to(project, {}, fail_at=-1)
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
    calls = _copy_to(project, {}, fail_at=-1).calls
    for number in range(len(calls)):
        stopped = _copy_to(project, {}, fail_at=number)
        if segments_of(stopped) and segments_of(stopped)[-1].last > newest_version(stopped):
            with pytest.raises(ArchiveDamaged, match="a copy that hasn't ended"):
                read_snapshot(stopped)
        copy_stream(project.store, FolderStore(stopped.folder))
        assert tree(stopped) == tree(project.store)
