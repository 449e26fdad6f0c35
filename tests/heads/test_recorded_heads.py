"""Heads are noted after each ingest where the configuration says, and the archive is held against them."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.appending import Follow
from event_archive.errors import ConfigurationError
from event_archive.heads import recorded as recorded_heads
from event_archive.heads.head import read_head, read_head_file
from event_archive.heads.recorded import FilePlace, ObjectsPlace, recorded_faults
from event_archive.ingest import ingest_stream
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from tests.conftest import Project


@pytest.fixture
def recording(project: Project) -> Project:
    """A project whose configuration names a file for heads."""
    text = project.config_file.read_text()
    project.config_file.write_text(f"heads: {{file: kept/heads.jsonl}}\n{text}")
    return project


def ingest_one(project: Project, number: int) -> None:
    """One commit."""
    project.write(f"{number}.jsonl", b'{"n": 1}\n' * (number + 1))
    project.ingest()


def test_each_ingest_that_commits_notes_the_head(recording: Project) -> None:
    """A line is appended; an ingest with nothing new appends none."""
    file = recording.folder / "kept" / "heads.jsonl"
    for number in range(3):
        ingest_one(recording, number)
        recording.ingest()
        documents = read_head_file(file)
        assert len(documents) == number + 1
        assert documents[-1].streams == {"events": read_head(recording.store)}
    assert recorded_faults(recording.config(), "events") == []


def test_cut_off_commits_are_found_by_what_was_noted(recording: Project) -> None:
    """All lines of the file count, not only the newest: what was ingested after the cut must not hide it."""
    for number in range(3):
        ingest_one(recording, number)
    for version in (2, 3):
        (recording.table / layout.entry_name(version)).unlink()
    faults = recorded_faults(recording.config(), "events")
    assert len(faults) == 2
    assert all("was cut off" in fault and "heads.jsonl" in fault for fault in faults)
    for number in range(3, 7):
        ingest_one(recording, number)
    faults = recorded_faults(recording.config(), "events")
    assert len(faults) == 2
    assert all("was replaced" in fault for fault in faults)


def test_an_ingest_succeeds_though_its_head_cannot_be_noted(recording: Project) -> None:
    """It is said loudly, and what was archived is archived."""
    (recording.folder / "kept").write_text("a file where the folder should be")
    recording.write("0.jsonl", b"{}\n")
    result = recording.ingest()
    assert result.events == 1
    assert any("THE HEAD WAS NOT RECORDED" in warning for warning in result.warnings)
    done = recording.run("head", "--record")
    assert done.returncode == 1
    assert "THE HEAD WAS NOT RECORDED" in done.stderr


def test_a_line_that_was_cut_off_does_not_spoil_the_others(recording: Project) -> None:
    """The next line begins on its own, and the torn one, of which nobody was told that it is recorded, is passed over."""
    ingest_one(recording, 0)
    file = recording.folder / "kept" / "heads.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:30])
    assert len(read_head_file(file)) == 1
    ingest_one(recording, 1)
    assert file.read_bytes().splitlines()[1] == whole[:30]
    assert len(read_head_file(file)) == 2
    assert recorded_faults(recording.config(), "events") == []


def test_a_damaged_line_is_named(recording: Project) -> None:
    """What was recorded and can't be read any more might have been the witness."""
    for number in range(2):
        ingest_one(recording, number)
    file = recording.folder / "kept" / "heads.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"version":2', b'"versjon":2'))
    (fault,) = recorded_faults(recording.config(), "events")
    assert "heads.jsonl:2" in fault


def test_a_place_where_nothing_was_recorded_yet_is_no_fault(recording: Project) -> None:
    """As after `heads` was added to the configuration of an archive."""
    assert recorded_faults(recording.config(), "events") == []


def test_many_writers_append_whole_lines(project: Project) -> None:
    """Lines of ingests that end at the same moment stand one below the other."""
    ingest_one(project, 0)
    head = read_head(project.store)
    place = FilePlace(project.folder / "heads.jsonl")

    def write() -> None:
        for _ in range(50):
            place.append("events", head, "now")

    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read_head_file(project.folder / "heads.jsonl")) == 400


def test_an_ingest_that_follows_notes_heads_on_the_way(
    recording: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only at its end, which may be months away."""
    monkeypatch.setattr(recorded_heads, "RECORD_SECONDS", 0.0)
    stop = threading.Event()
    file = recording.folder / "kept" / "heads.jsonl"
    for number in range(4):
        recording.write(f"{number}.jsonl", b'{"n": 1}\n' * 3000)
    text = recording.config_file.read_text()
    recording.config_file.write_text(f"{text}    commit_bytes: 100\n")
    noted: list[int] = []
    timer = threading.Timer(30, stop.set)
    timer.start()

    def on_progress(_progress: object) -> None:
        noted.append(len(read_head_file(file)) if file.exists() else 0)
        if len(noted) > 2:
            stop.set()

    ingest_stream(recording.config(), "events", follow=Follow(stop), on_progress=on_progress)
    timer.cancel()
    assert noted[-1] >= 1
    assert read_head_file(file)[-1].streams["events"] == read_head(recording.store)


def test_objects_keep_every_head_and_the_highest_counts(project: Project) -> None:
    """One object per head, never replaced; two heads of the same version are two witnesses."""
    place = ObjectsPlace(FolderStore(project.folder / "kept"))
    heads = []
    for number in range(2):
        ingest_one(project, number)
        heads.append(read_head(project.store))
        place.append("events", heads[-1], "now")
        place.append("events", heads[-1], "later")
    assert len(list((project.folder / "kept").iterdir())) == 2
    assert place.read("events") == [heads[1]]
    assert place.read("other") == []
    (project.table / layout.entry_name(2)).unlink()
    project.ingest()
    place.append("events", read_head(project.store), "now")
    assert set(place.read("events")) == {heads[1], read_head(project.store)}


def test_the_command_prints_and_records_heads(recording: Project) -> None:
    """What `--json` prints is a head file; `--record` appends it to the places of the configuration."""
    ingest_one(recording, 0)
    file = recording.folder / "kept" / "heads.jsonl"
    before = len(read_head_file(file))
    done = recording.run("head", "--json", "--record")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    head = read_head(recording.store)
    assert document["format"] == 1
    assert document["streams"]["events"]["chain_hash"] == head.chain_hash
    assert document["streams"]["events"]["commits"] == 2
    assert len(read_head_file(file)) == before + 1
    shown = recording.run("head")
    assert head.chain_hash is not None
    assert head.chain_hash in shown.stdout
    (recording.folder / "printed.json").write_text(done.stdout)
    assert read_head_file(recording.folder / "printed.json")[0].streams["events"] == head


def test_recording_without_a_place_is_wrong_usage(project: Project) -> None:
    """With the key to add."""
    done = project.run("head", "--record")
    assert done.returncode == 2
    assert "`heads: {file: heads.jsonl}`" in done.stderr


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ("{file: archive/heads.jsonl}", "lies in the archive"),
        ("{file: landing/heads.jsonl}", "would be read as events"),
        ("{}", "write one of the keys"),
        ("{file: a, s3: s3://bucket/b}", "write one of the keys"),
        ("{s3: folder}", "write s3://bucket/prefix"),
        ("{file: s3://bucket/b}", "use the key `s3`"),
        ("{kafka: {brokers: localhost, topic: a, properties: {sasl.kerberos.kinit.cmd: x}}}", "not among"),
        ("{elsewhere: a}", "no such key here"),
    ],
)
def test_places_that_cannot_keep_heads_are_refused(project: Project, heads: str, said: str) -> None:
    """Above all the archive itself."""
    project.config_file.write_text(f"heads: {heads}\n{project.config_file.read_text()}")
    with pytest.raises(ConfigurationError, match=said):
        project.config()


def test_several_places_are_a_list(project: Project) -> None:
    """Each takes every head."""
    text = project.config_file.read_text()
    project.config_file.write_text(f"heads: [{{file: a.jsonl}}, {{file: b.jsonl}}]\n{text}")
    ingest_one(project, 0)
    assert (project.folder / "a.jsonl").read_bytes() == (project.folder / "b.jsonl").read_bytes() != b""
