"""Old log entries leave the log folder, and nothing is lost by it."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from event_archive import appending, layout, sealing
from event_archive.archive.commit import Batch, Head, commit
from event_archive.archive.history import iter_commits, log_versions, newest_version
from event_archive.archive.segments import segments_of
from event_archive.archive.snapshot import read_snapshot
from event_archive.archive.state import State, encode_state, state_names
from event_archive.coverage import stream_coverage
from event_archive.errors import ArchiveDamaged
from event_archive.sealing import seal
from event_archive.sources.files.positions import Positions
from event_archive.status import stream_status
from event_archive.verify import verify_table

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.archive.log import Commit
    from tests.conftest import Project


def ingest_files(project: Project, count: int, *, first: int = 0) -> None:
    """One commit a file."""
    for number in range(first, first + count):
        project.write(f"{number}.jsonl", b"".join(b'{"n": %d}\n' % i for i in range(number + 1)))
        project.ingest()


def large_event(number: int) -> bytes:
    """A line that is a block, and with a small `commit_bytes` a commit, of its own."""
    return b'{"n": %d, "text": "%s"}\n' % (number, b"x" * 10_000)


def history(project: Project) -> list[Commit]:
    """All commits."""
    return list(iter_commits(project.store))


def positions(project: Project) -> Positions:
    """Positions as an ingest sees them."""
    found = Positions()
    read_snapshot(project.store, on_commit=found.note)
    return found


def test_a_sealed_log_tells_the_same_history(project: Project) -> None:
    """Commits, positions, coverage and status are the same before and after, and after more of both."""
    ingest_files(project, 6)
    before, known = history(project), positions(project)
    covered, status = stream_coverage(project.config(), "events"), stream_status(project.config(), "events")
    assert seal(project.store, at_least=3) is not None
    ingest_files(project, 4, first=6)
    assert seal(project.store, at_least=3) is not None
    assert log_versions(project.store)[0] == 7, "what the first seal has is still in the log folder"
    assert history(project)[: len(before)] == before
    now = positions(project)
    assert {path: now.by_path[path] for path in known.by_path} == known.by_path
    assert now.total_records == known.total_records + sum(range(7, 11))
    assert len(stream_coverage(project.config(), "events").partitions) == len(covered.partitions) + 4
    assert stream_status(project.config(), "events").events == status.events + sum(range(7, 11))
    assert read_snapshot(project.store).state is not None
    assert project.ingest().events == 0, "nothing is archived twice"


def test_delta_readers_see_no_difference(project: Project) -> None:
    """delta-rs reads the sealed table by its checkpoint: the same version, files and rows."""
    ingest_files(project, 6)
    for first in (6, 12):
        seal(project.store, at_least=3)
        ingest_files(project, 6, first=first)
    snapshot = read_snapshot(project.store)
    assert log_versions(project.store)[0] > 0
    table = DeltaTable(project.table)
    assert table.version() == snapshot.version
    assert sorted(table.file_uris()) == sorted(snapshot.file_paths())
    assert table.to_pyarrow_table().num_rows == snapshot.events == sum(range(1, 19))


def test_too_few_entries_are_left_alone(project: Project) -> None:
    """Sealing is for many entries, and says that it has done nothing."""
    ingest_files(project, 3)
    assert seal(project.store, at_least=5) is None
    assert seal(project.store, at_least=4) is not None
    assert seal(project.store, at_least=2) is None
    assert [(s.first, s.last) for s in segments_of(project.store)] == [(0, 3)]


def test_ingest_seals_when_many_entries_have_come(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one ingest of many commits, the log folder stays small, and the next commit goes on behind the seal."""
    monkeypatch.setattr(appending, "SEAL_COMMITS", 5)
    monkeypatch.setattr(sealing, "SEAL_COMMITS", 5)
    monkeypatch.setattr(appending, "seal", lambda table: seal(table, at_least=5))
    project.configure(stream="commit_bytes: 1")
    for number in range(30):
        project.write(f"{number:02}.jsonl", large_event(number))
    result = project.ingest()
    assert result.warnings == ()
    operations = [commit.operation for commit in history(project)]
    assert operations.count("WRITE") >= 30
    assert operations.count("SEAL") >= 4
    assert len(log_versions(project.store)) < 20
    assert sum(map(len, project.events().values())) == 30


def test_a_seal_by_another_writer_moves_no_head_over_a_commit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer commits just before our seal: what it brought isn't archived a second time."""
    monkeypatch.setattr(appending, "SEAL_COMMITS", 2)
    project.configure(stream="commit_bytes: 1")
    for number in range(6):
        project.write(f"{number}.jsonl", large_event(number))
    raced: list[bool] = []

    def seal_after_another(table: object) -> Head | None:
        if not raced:
            raced.append(True)
            monkeypatch.setattr(appending, "SEAL_COMMITS", 1000)
            project.ingest()  # all that is left
            monkeypatch.setattr(appending, "SEAL_COMMITS", 2)
        return seal(project.store, at_least=2)

    monkeypatch.setattr(appending, "seal", seal_after_another)
    project.ingest()
    assert raced
    assert sum(map(len, project.events().values())) == 6


def test_a_commit_during_a_seal_stays_and_is_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that comes between the state and the commit that names it."""
    ingest_files(project, 4)
    original = encode_state

    def commit_meanwhile(state: State) -> bytes:
        head = Head(state.version, state.entry_sha256)
        commit(
            project.store,
            head,
            Batch(None, 0, {}, {}),
            ingested_at=dt.datetime.now(dt.UTC),
        )
        return original(state)

    monkeypatch.setattr(sealing, "encode_state", commit_meanwhile)
    sealed = seal(project.store, at_least=3)
    assert sealed is not None
    assert sealed.version == 6
    assert [c.operation for c in history(project)[-2:]] == ["WRITE", "SEAL"]
    assert read_snapshot(project.store).version == 6


def test_a_damaged_or_lost_state_costs_time_only(project: Project) -> None:
    """The log knows everything that a state knows."""
    ingest_files(project, 6)
    seal(project.store, at_least=3)
    ingest_files(project, 2, first=6)
    whole = positions(project)
    ((_, name),) = state_names(project.store)
    path = project.table / name
    content = path.read_bytes()
    for damage in (content[:-5], bytes([content[0] ^ 1]) + content[1:], b""):
        path.write_bytes(damage)
        assert positions(project).by_path == whole.by_path
    path.unlink()
    assert positions(project).by_path == whole.by_path


def test_a_state_that_no_commit_names_is_not_believed(project: Project) -> None:
    """As a crash before the commit leaves it, or as somebody could forge it."""
    ingest_files(project, 5)
    truth = positions(project)
    seal(project.store, at_least=3)
    ((version, name),) = state_names(project.store)
    state = read_snapshot(project.store).state
    assert state is not None
    forged = encode_state(replace(state, files=()))
    (project.table / name).unlink()
    forged_name = layout.state_name(version, hashlib.sha256(forged).hexdigest())
    (project.table / forged_name).write_bytes(forged)
    assert positions(project).by_path == truth.by_path
    assert len(read_snapshot(project.store).files) == 5


def test_a_missing_segment_is_an_error_and_no_shorter_history(project: Project) -> None:
    """What only the segment had is named."""
    for first in (0, 5):
        ingest_files(project, 5, first=first)
        seal(project.store, at_least=3)
    (segment, _) = segments_of(project.store)
    (project.table / segment.name).unlink()
    with pytest.raises(ArchiveDamaged, match="log entry 0 is missing"):
        history(project)


def test_entries_that_leave_the_folder_while_it_is_read_are_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader has listed entries which are sealed and removed before it comes to them."""
    ingest_files(project, 8)
    store = project.store
    entries = iter_commits(store)
    assert next(entries).version == 0
    monkeypatch.setattr("event_archive.archive.history._ENTRIES_AT_ONCE", 2)
    entries = iter_commits(store)
    first = [next(entries).version, next(entries).version]
    seal(store, at_least=3)
    ingest_files(project, 3, first=8)
    seal(store, at_least=3)
    rest = [commit.version for commit in entries]
    assert first + rest[: 8 - 1] == list(range(9))


def test_an_old_log_is_sealed_in_segments_of_bounded_size(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many entries that were never sealed."""
    monkeypatch.setattr(sealing, "_SEGMENT_ENTRIES", 4)
    ingest_files(project, 9)
    before = history(project)
    seal(project.store, at_least=3)
    assert [(s.first, s.last) for s in segments_of(project.store)] == [(0, 3), (4, 7), (8, 9)]
    for version in range(10):
        (project.table / layout.entry_name(version)).unlink()
    assert history(project)[:10] == before
    assert newest_version(project.store) == 10


def flip_a_bit(path: Path) -> None:
    """In the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_entry_stays_in_the_folder_while_its_segment_is_damaged(project: Project) -> None:
    """The next seal would remove the only copy that is left."""
    ingest_files(project, 5)
    seal(project.store, at_least=3)
    (segment,) = segments_of(project.store)
    flip_a_bit(project.table / segment.name)
    ingest_files(project, 5, first=5)
    with pytest.raises(ArchiveDamaged, match="SHA-256"):
        seal(project.store, at_least=3)
    assert log_versions(project.store)[0] == 0
    assert [commit.version for commit in history(project)] == list(range(13))
    assert project.ingest().events == 0


def test_a_leftover_that_has_rotted_is_put_right_before_a_seal_names_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal was killed before its commit; its segment and state lost a bit; the next seal has the same names for them."""
    ingest_files(project, 5)
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "_commit", lambda *_: None)
        seal(project.store, at_least=3)
    leftovers = [
        project.table / segments_of(project.store)[0].name,
        project.table / state_names(project.store)[0][1],
    ]
    for leftover in leftovers:
        flip_a_bit(leftover)
    assert seal(project.store, at_least=3) is not None
    assert read_snapshot(project.store).state is not None
    assert verify_table(project.store).is_whole


def test_of_two_seals_at_once_one_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's commit comes between what is read and what is named."""
    ingest_files(project, 5)
    original = sealing._named_after

    def named_before_another_seal(*arguments: Any) -> Any:
        monkeypatch.setattr(sealing, "_named_after", original)
        found = original(*arguments)
        assert seal(project.store, at_least=3) is not None
        return found

    monkeypatch.setattr(sealing, "_named_after", named_before_another_seal)
    assert seal(project.store, at_least=3) is None
    assert [commit.operation for commit in history(project)].count("SEAL") == 1
    assert verify_table(project.store).is_whole


def test_what_is_sealed_is_not_sealed_again_when_the_newest_state_is_lost(project: Project) -> None:
    """The commits say what is sealed."""
    for first in (0, 5):
        ingest_files(project, 5, first=first)
        seal(project.store, at_least=3)
    (project.table / state_names(project.store)[0][1]).unlink()
    ingest_files(project, 5, first=10)
    assert seal(project.store, at_least=3) is not None
    assert [(s.first, s.last) for s in segments_of(project.store)] == [(0, 5), (6, 11), (12, 17)]
    assert verify_table(project.store).is_whole
    assert [commit.version for commit in history(project)] == list(range(19))


def test_a_log_that_was_cut_off_behind_its_segments_is_refused(project: Project) -> None:
    """Going on from there would make a second history beside the one that the segment tells."""
    ingest_files(project, 5)
    seal(project.store, at_least=3)
    for version in (4, 5, 6):
        (project.table / layout.entry_name(version)).unlink()
    with pytest.raises(ArchiveDamaged, match="ends at 3: its newest entries are missing"):
        project.ingest()
    for version in range(4):
        (project.table / layout.entry_name(version)).unlink()
    with pytest.raises(ArchiveDamaged, match="newest entries are missing"):
        project.ingest()


def test_a_strange_state_or_segment_keeps_nobody_from_reading(project: Project) -> None:
    """Files that no seal has named: one that parses and is wrong, one that doesn't even decode."""
    ingest_files(project, 5)
    seal(project.store, at_least=3)
    for first in (5, 10):
        ingest_files(project, 5, first=first)
        seal(project.store, at_least=3)
    truth = history(project)
    state = read_snapshot(project.store).state
    assert state is not None
    forged = encode_state(replace(state, version=state.version + 1, entry_sha256="0" * 64))
    name = layout.state_name(state.version + 1, hashlib.sha256(forged).hexdigest())
    (project.table / name).write_bytes(forged)
    (project.table / layout.segment_name(0, 4, "0" * 64)).write_bytes(b"nothing")
    assert history(project) == truth
    assert read_snapshot(project.store).events == sum(range(1, 16))
    assert project.ingest().events == 0


def test_a_link_to_nothing_in_the_log_folder_is_no_endless_loop(project: Project) -> None:
    """The segment has the entry."""
    for first in (0, 5):
        ingest_files(project, 5, first=first)
        seal(project.store, at_least=3)
    assert log_versions(project.store)[0] == 6
    (project.table / layout.entry_name(3)).symlink_to("nowhere")
    assert [commit.version for commit in history(project)] == list(range(13))


def test_an_older_checkpoint_is_never_pointed_to_again(project: Project) -> None:
    """A slow writer comes to its pointer when a newer seal is through."""
    ingest_files(project, 5)
    seal(project.store, at_least=3)
    old = read_snapshot(project.store).state
    ingest_files(project, 5, first=5)
    seal(project.store, at_least=3)
    pointer = (project.table / layout.LAST_CHECKPOINT).read_bytes()
    assert old is not None
    sealing._point_to(project.store, old, 1)
    assert (project.table / layout.LAST_CHECKPOINT).read_bytes() == pointer


def test_large_entries_make_more_segments(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand entries of megabytes must not be one segment."""
    monkeypatch.setattr(sealing, "_SEGMENT_BYTES", 3000)
    ingest_files(project, 6)
    seal(project.store, at_least=3)
    assert len(segments_of(project.store)) > 2
    assert verify_table(project.store).is_whole
