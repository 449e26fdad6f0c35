"""A head that was kept elsewhere tells what no archive can tell of itself: that its newest commits were cut off."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import layout
from event_archive.archive import history
from event_archive.archive.history import iter_commits, log_versions
from event_archive.archive.segments import encode_segment
from event_archive.archive.snapshot import read_snapshot
from event_archive.archive.state import decode_state, encode_state, state_names
from event_archive.errors import UsageError
from event_archive.heads import head as heads_module
from event_archive.heads.head import (
    StreamHead,
    contains_head,
    contains_heads,
    decode_document,
    document_of,
    encode_document,
    read_head,
    read_head_file,
)
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from event_archive.archive.log import Commit
    from tests.conftest import Project


def ingest_files(project: Project, count: int, *, first: int = 0) -> None:
    """One commit a file."""
    for number in range(first, first + count):
        project.write(f"{number}.jsonl", b"".join(b'{"n": %d}\n' % i for i in range(number + 1)))
        project.ingest()


def heads_of(project: Project) -> list[StreamHead]:
    """The head after each commit, as it was then."""
    first, events, value_bytes, found = "", 0, 0, []
    for commit in iter_commits(project.store):
        first = first or commit.entry_sha256
        events += commit.events
        value_bytes += commit.value_bytes
        time = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=commit.ingested_at_us)
        found.append(
            StreamHead(commit.version, commit.entry_sha256, first, events, value_bytes, time.isoformat())
        )
    return found


def seal_twice(project: Project) -> None:
    """Leaves a log of which the oldest entries are in segments only."""
    ingest_files(project, 5)
    assert seal(project.store, at_least=3)
    ingest_files(project, 4, first=5)
    assert seal(project.store, at_least=3)
    ingest_files(project, 2, first=9)
    assert log_versions(project.store)[0] > 0


@pytest.mark.parametrize("is_sealed", [False, True])
def test_an_archive_contains_all_heads_that_it_ever_had(project: Project, *, is_sealed: bool) -> None:
    """Wherever the entries lie by now; the newest is what `read_head` gives."""
    ingest_files(project, 3)
    if is_sealed:
        seal_twice(project)
    found = heads_of(project)
    assert found[-1] == read_head(project.store)
    assert contains_heads(project.store, found) == [None] * len(found)
    assert [contains_head(project.store, head) for head in found] == [None] * len(found)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_cut_off_commits_are_found(project: Project, *, is_sealed: bool) -> None:
    """Nothing in the archive shows it, and the head says which commit is missing."""
    if is_sealed:
        seal_twice(project)
    else:
        ingest_files(project, 3)
    head = read_head(project.store)
    (project.table / layout.entry_name(head.version)).unlink()
    list(iter_commits(project.store))
    fault = contains_head(project.store, head)
    assert fault is not None
    assert f"was cut off: it ends with commit {head.version - 1}, but commit {head.version}" in fault
    shutil.rmtree(project.table)
    fault = contains_head(project.store, head)
    assert fault is not None
    assert "is not there" in fault


def test_commits_that_were_replaced_are_found(project: Project) -> None:
    """Cut off and ingested again the archive has as many commits and events as before, and they are others."""
    ingest_files(project, 3)
    head = read_head(project.store)
    for version in (2, 3):
        (project.table / layout.entry_name(version)).unlink()
    project.ingest()
    now = read_head(project.store)
    assert (now.events, now.value_bytes) == (head.events, head.value_bytes)
    ingest_files(project, 1, first=3)
    fault = contains_head(project.store, replace(head, version=2, chain_hash=heads_of(project)[1].chain_hash))
    assert fault is not None
    assert "log entry 2 was replaced" in fault
    fault = contains_head(project.store, head)
    assert fault is not None
    assert "log entry 3 was replaced" in fault


def test_another_table_is_found(project: Project) -> None:
    """An archive that was begun anew has another first entry, whatever it holds."""
    ingest_files(project, 2)
    head = read_head(project.store)
    shutil.rmtree(project.table)
    project.ingest()
    ingest_files(project, 1, first=2)
    fault = contains_head(project.store, head)
    assert fault is not None
    assert "another table" in fault


@pytest.mark.parametrize("is_sealed", [False, True])
def test_counts_that_are_not_those_of_the_head_are_found(project: Project, *, is_sealed: bool) -> None:
    """A head whose hash is right and whose counts are not was made by other software, or changed."""
    if is_sealed:
        seal_twice(project)
    else:
        ingest_files(project, 3)
    for head in heads_of(project):
        assert contains_head(project.store, replace(head, events=head.events + 1)) is not None
        assert contains_head(project.store, replace(head, value_bytes=head.value_bytes + 1)) is not None


def test_a_state_that_lies_about_counts_is_not_believed(project: Project) -> None:
    """Only one that a commit names, with its hash, stands for the entries before it."""
    seal_twice(project)
    head = read_head(project.store)
    _, name = state_names(project.store)[0]
    content = encode_state(replace(decode_state(project.store.read(name)), events=999))
    forged = layout.state_name(11, hashlib.sha256(content).hexdigest())
    (project.table / forged).write_bytes(content)
    assert contains_head(project.store, head) is None
    (project.table / name).write_bytes(content)
    assert contains_head(project.store, head) is None


def test_a_head_is_looked_up_without_reading_the_log_from_its_beginning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first entry, the head's own, and those from the newest state on; not what is older."""
    seal_twice(project)
    head = read_head(project.store)
    parsed: list[int] = []
    commits = iter_commits

    def noted(*arguments: object, **more: object) -> Iterator[Commit]:
        for commit in commits(*arguments, **more):  # type: ignore[arg-type]
            parsed.append(commit.version)
            yield commit

    monkeypatch.setattr(heads_module, "iter_commits", noted)
    assert contains_head(project.store, head) is None
    state = read_snapshot(project.store).state
    assert state is not None
    assert parsed == list(range(state.version + 1, head.version + 1))


def test_many_heads_are_looked_up_in_one_pass(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has recorded every commit of ten years mustn't cost the log once for each."""
    seal_twice(project)
    found = heads_of(project)
    passes: list[str] = []
    for name in ("iter_entries", "iter_proved_entries", "iter_commits"):

        def noted(*arguments: Any, name: str = name, **more: Any) -> Any:
            passes.append(name)
            return getattr(history, name)(*arguments, **more)

        monkeypatch.setattr(heads_module, name, noted)
    assert contains_heads(project.store, found) == [None] * len(found)
    assert len(found) > 10
    assert sorted(passes) == ["iter_commits", "iter_entries", "iter_proved_entries"]
    passes.clear()
    wrong = [replace(head, chain_hash="0" * 64) for head in found]
    assert all(fault and "was replaced" in fault for fault in contains_heads(project.store, wrong))
    assert len(passes) <= 3


def test_damage_before_the_head_is_said_and_no_exception(project: Project) -> None:
    """Whoever asks for a head hears what keeps it from being proved."""
    ingest_files(project, 3)
    head = read_head(project.store)
    path = project.table / layout.entry_name(1)
    path.write_bytes(path.read_bytes().replace(b'"events":1', b'"events":2'))
    fault = contains_head(project.store, head)
    assert fault is not None
    assert str(path) in fault
    (project.table / layout.entry_name(0)).unlink()
    assert contains_head(project.store, head) is not None


def test_a_stream_without_a_table_has_a_head_that_every_archive_contains(project: Project) -> None:
    """Nothing was there, so nothing can be missing."""
    head = read_head(project.store)
    assert (head.version, head.commits, head.chain_hash) == (-1, 0, None)
    assert contains_head(project.store, head) is None
    ingest_files(project, 1)
    assert contains_head(project.store, head) is None
    document = document_of({"events": head})
    assert decode_document(encode_document(document)) == document


def test_a_document_comes_back_as_it_was_written(project: Project, tmp_path: Path) -> None:
    """One document, and a file with a line for each; a last line that was cut off was never recorded."""
    ingest_files(project, 2)
    document = document_of({"events": read_head(project.store)})
    text = encode_document(document)
    assert decode_document(text) == document
    file = tmp_path / "heads.jsonl"
    file.write_text(json.dumps(json.loads(text), indent=2))
    assert read_head_file(file) == [document]
    file.write_text(f"{text}\n{text}\n{text[:40]}")
    assert read_head_file(file) == [document, document]
    file.write_text(f"{text}\n{text[:40]}\n{text}\n")
    assert read_head_file(file) == [document, document]
    file.write_text(f"{text}\n[1]\n{text}\n")
    with pytest.raises(UsageError, match=r"heads.jsonl:2: is no line with heads"):
        read_head_file(file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "streams": {}}',
        '{"format": 1, "streams": {"a": {"version": "1"}}}',
        '{"format": 1, "streams": {"a": 1}}',
        '{"format": 1, "streams": {"a": {"version": 1, "chain_hash": null}}}',
    ],
)
def test_what_is_no_document_of_heads_is_refused(text: str, tmp_path: Path) -> None:
    """It must not pass for heads that are all there."""
    file = tmp_path / "heads.json"
    file.write_text(text)
    with pytest.raises(UsageError):
        read_head_file(file)


def test_a_copy_contains_the_head_of_its_source(project: Project) -> None:
    """Also where only the copy is left."""
    ingest_files(project, 2)
    shutil.copytree(project.table, project.folder / "copy")
    assert contains_head(FolderStore(project.folder / "copy"), read_head(project.store)) is None


def test_a_true_entry_that_is_left_beside_another_history_proves_nothing(project: Project) -> None:
    """Whoever replaces a history may leave the old entries in a segment that no seal names: the chain to the newest entry tells."""
    ingest_files(project, 6)
    head = read_head(project.store)
    old = [project.store.read(layout.entry_name(version)) for version in range(head.version + 1)]
    for version in range(2, head.version + 1):
        (project.table / layout.entry_name(version)).unlink()
    ingest_files(project, 6, first=20)
    assert seal(project.store, at_least=3)
    ingest_files(project, 4, first=30)
    assert seal(project.store, at_least=3)
    assert log_versions(project.store)[0] > head.version
    forged = encode_segment(0, [*old, *(old[-1],) * 4])
    name = layout.segment_name(0, head.version + 4, hashlib.sha256(forged).hexdigest())
    (project.table / name).write_bytes(forged)
    found = dict(history.iter_entries(project.store))[head.version]
    assert hashlib.sha256(found).hexdigest() == head.chain_hash, "looked up by its version it is there"
    assert contains_head(project.store, head) is not None


def test_a_state_that_no_seal_names_is_as_good_as_absent(project: Project) -> None:
    """Also one that stands on an entry that never was."""
    seal_twice(project)
    ingest_files(project, 2, first=40)
    head = read_head(project.store)
    _, name = state_names(project.store)[0]
    content = encode_state(
        replace(decode_state(project.store.read(name)), version=head.version - 1, entry_sha256="0" * 64)
    )
    forged = layout.state_name(head.version - 1, hashlib.sha256(content).hexdigest())
    (project.table / forged).write_bytes(content)
    assert contains_head(project.store, head) is None


def test_heads_behind_damage_are_still_proved(project: Project) -> None:
    """An entry that is lost in the middle is said of the heads before it."""
    ingest_files(project, 22)
    found = heads_of(project)
    (project.table / layout.entry_name(20)).write_bytes(b"")
    hashes = heads_module._proved_hashes(project.store, found)
    assert [version for version in sorted(hashes) if isinstance(hashes[version], str)] == [20, 21, 22]
    assert all(contains_heads(project.store, found))


def test_many_wrong_heads_of_a_damaged_log_are_few_walks(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be proved is said of each, and doesn't cost the log once for each."""
    ingest_files(project, 25)
    wrong = [replace(head, chain_hash="0" * 64) for head in heads_of(project)]
    (project.table / layout.entry_name(20)).write_bytes(b"")
    walks: list[int] = []

    def noted(*arguments: Any, **more: Any) -> Any:
        walks.append(1)
        return history.iter_proved_entries(*arguments, **more)

    monkeypatch.setattr(heads_module, "iter_proved_entries", noted)
    assert all(contains_heads(project.store, wrong))
    assert len(walks) < len(wrong) - 4
