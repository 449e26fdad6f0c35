"""What `verify` reads when it is told to read less, or more, and going on after an interruption."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import layout
from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.compaction.days import compact_stream
from event_archive.errors import UsageError
from event_archive.verify import Scope, VerifyReport, parse_share, parse_since, verify_stream
from tests.verify.forging import Actions, Facts, rechain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project

FILES = 8


class Interrupted(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.fixture
def archived(project: Project) -> Project:
    """A project with eight commits of one file each; the first entry makes the table."""
    for number in range(FILES):
        project.write(f"{number}.jsonl", b"".join(b'{"line": %d}\n' % line for line in range(100 + number)))
        project.ingest()
    assert read_snapshot(project.store).version == FILES
    return project


def verify(project: Project, resume: bool = False, **scope: Any) -> VerifyReport:  # noqa: FBT001, FBT002 - terse tests
    """The proof of the stream."""
    return verify_stream(project.config(), "events", scope=Scope(**scope), resume=resume)


def data_file(project: Project, version: int) -> Path:
    """The data file of a commit."""
    (path,) = project.table.glob(f"*/commit-{version:020d}-*.parquet")
    return path


def flip(path: Path) -> None:
    """Flips a bit, and leaves the size as it was."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_since_a_commit_reads_exactly_the_files_of_later_ones(archived: Project) -> None:
    """Not that commit's own."""
    flip(data_file(archived, 5))
    assert verify(archived, since=5).is_whole
    assert verify(archived, since=5).files_read == FILES - 5
    assert [damage.path for damage in verify(archived, since=4).damages] == [str(data_file(archived, 5))]


def test_since_a_time_reads_exactly_the_files_of_later_commits(archived: Project) -> None:
    """To the microsecond, and not that commit's own."""
    made_at = {commit.version: commit.ingested_at_us for commit in iter_commits(archived.store)}
    time = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=made_at[5])
    assert verify(archived, since=time).files_read == FILES - 5
    assert verify(archived, since=time - dt.timedelta(microseconds=1)).files_read == FILES - 4


def test_since_a_time_goes_by_versions_where_a_clock_went_back(archived: Project) -> None:
    """What came after a later commit is later, whatever its own time."""
    times: dict[int, int] = {}

    def edit(version: int, facts: Facts, _actions: Actions) -> None:
        if version == 6:
            facts["ingestedAtUs"] = times[2]
        times[version] = facts["ingestedAtUs"]

    rechain(archived, edit)
    time = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=times[4])
    report = verify(archived, since=time)
    assert report.files_read == FILES - 4
    assert any("ingested_at" in damage.reason for damage in report.damages), report.damages


def test_since_proves_the_whole_log_all_the_same(archived: Project) -> None:
    """And that the other files are there, with their sizes."""
    flip(archived.table / layout.entry_name(2))
    assert "log entry" not in str(verify(archived, since=7).damages)
    assert verify(archived, since=7).damages[0].name == layout.entry_name(2)


@pytest.mark.parametrize("scope", [{"since": 7}, {"is_quick": True}, {"sample": 0.01, "seed": 1}])
def test_files_that_are_not_read_must_be_there_with_their_sizes(
    archived: Project, scope: dict[str, Any]
) -> None:
    """Of all that is left out, a missing and a cut file are found."""
    data_file(archived, 1).unlink()
    with data_file(archived, 2).open("ab") as file:
        file.write(b"x")
    found = {damage.reason for damage in verify(archived, **scope).damages}
    assert "is missing" in found
    assert any("bytes instead of" in reason for reason in found)


def test_quick_reads_no_file(archived: Project) -> None:
    """A flipped bit in one isn't seen; a damaged log is."""
    flip(data_file(archived, 3))
    report = verify(archived, is_quick=True)
    assert report.is_whole
    assert report.files_read == 0
    assert report.bytes_read < 100_000
    flip(archived.table / layout.entry_name(3))
    assert not verify(archived, is_quick=True).is_whole


def test_a_sample_is_drawn_by_its_seed_and_has_its_share_of_the_bytes(archived: Project) -> None:
    """The same seed draws the same files, other seeds others; all of them are reached some time."""
    for number in range(1, FILES + 1):
        flip(data_file(archived, number))
    drawn = [
        frozenset(damage.path for damage in verify(archived, sample=0.25, seed=seed).damages)
        for seed in range(30)
    ]
    assert {len(files) for files in drawn} <= {2, 3}
    assert len(set(drawn)) > 5
    assert len(frozenset.union(*drawn)) == FILES
    assert frozenset(damage.path for damage in verify(archived, sample=0.25, seed=3).damages) == drawn[3]
    assert len(verify(archived, sample=0.0001, seed=1).damages) == 1
    assert len(verify(archived, sample=1.0).damages) == FILES


def test_a_sample_without_a_seed_says_the_one_that_it_drew(archived: Project) -> None:
    """So that it can be repeated."""
    report = verify(archived, sample=0.25)
    assert report.seed is not None
    assert str(report.seed) in report.scope


def interrupt(project: Project, after: int) -> None:
    """Begins a proof and breaks it off when it has come to a file."""
    seen: list[int] = []

    def on_progress(done: int, _total: int) -> None:
        seen.append(done)
        if len(seen) > after:
            raise Interrupted

    with pytest.raises(Interrupted):
        verify_stream(project.config(), "events", on_progress=on_progress, threads=1)


def test_an_interrupted_proof_goes_on_only_if_it_is_asked_to(archived: Project) -> None:
    """What was proved isn't read again; the end forgets it all."""
    interrupt(archived, 5)
    assert verify(archived, resume=True).files_proved_before > 0
    assert verify(archived, resume=True).files_proved_before == 0
    interrupt(archived, 5)
    assert verify(archived).files_proved_before == 0


def journal(project: Project) -> Path:
    """Where it is kept."""
    return project.config().cache.path / "verify" / "events.json"


def test_a_file_that_has_changed_since_is_read_again(archived: Project) -> None:
    """Its time of modification tells, though its size is the same."""
    interrupt(archived, FILES - 1)
    flip(data_file(archived, 1))
    assert [damage.path for damage in verify(archived, resume=True).damages] == [str(data_file(archived, 1))]


def test_a_journal_that_is_old_is_no_proof(archived: Project) -> None:
    """After a week a disk may have forgotten something; and a time in the future is a mistake."""
    for moved in (dt.timedelta(days=-7), dt.timedelta(hours=1)):
        interrupt(archived, FILES - 1)
        document = json.loads(journal(archived).read_text())
        for file in document["files"].values():
            file["proved_at"] = (dt.datetime.fromisoformat(file["proved_at"]) + moved).isoformat()
        journal(archived).write_text(json.dumps(document))
        assert verify(archived, resume=True).files_proved_before == 0


def test_a_journal_of_another_table_is_no_proof(archived: Project) -> None:
    """Though its files may have the same names."""
    interrupt(archived, FILES - 1)
    document = json.loads(journal(archived).read_text())
    assert document["files"]
    journal(archived).write_text(json.dumps({**document, "table_id": "0" * 64}))
    assert verify(archived, resume=True).files_proved_before == 0


def test_a_journal_of_hashes_is_no_proof_of_row_digests(archived: Project) -> None:
    """A deep proof reads again what a plain one has proved."""
    interrupt(archived, FILES - 1)
    assert verify(archived, resume=True, is_deep=True).files_proved_before == 0


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": 3}', '{"format": 1}'])
def test_a_broken_journal_only_costs_time(archived: Project, content: str) -> None:
    """It is no part of the archive."""
    interrupt(archived, FILES - 1)
    journal(archived).write_text(content)
    assert verify(archived, resume=True).is_whole


def test_deep_compares_a_digest_for_every_stretch(archived: Project) -> None:
    """Before and after compaction, since the digests are those of the original commits."""
    assert verify(archived, is_deep=True).digests_compared == FILES
    compact_stream(archived.config(), "events", until=dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1))
    report = verify(archived, is_deep=True)
    assert report.is_whole
    assert report.digests_compared == FILES
    assert len(report.replaced) == FILES


def test_a_lost_entry_is_told_of_with_the_offsets_that_it_brought(project: Project) -> None:
    """Its neighbours know them, although nothing is left of it; and the file that it brought is named."""
    for length in (10, 25, 40):
        project.write("a.jsonl", b'{"x": 1}\n' * length)
        project.ingest()
    lost = data_file(project, 2).name
    (project.table / layout.entry_name(2)).write_bytes(b"")
    (damage,) = verify(project).damages
    assert "file:a.jsonl 10 to 24" in damage.affected
    assert lost in damage.affected


def test_an_ingest_that_goes_on_meanwhile_is_no_damage(archived: Project) -> None:
    """Its files are for versions beyond the head that is being proved."""
    calls: list[int] = []

    def on_progress(_done: int, _total: int) -> None:
        if not calls:
            calls.append(1)
            for number in range(3):
                archived.write(f"new-{number}.jsonl", b"new\n")
                archived.ingest()

    assert verify_stream(archived.config(), "events", on_progress=on_progress).is_whole
    assert read_snapshot(archived.store).version == FILES + 3


@pytest.mark.parametrize("text", ["", "2026-01-01", "2026-01-01T00:00:00", "-1", "x", "1.5"])
def test_since_is_a_commit_or_a_time_with_a_zone(text: str) -> None:
    """A time without one means another in each place."""
    with pytest.raises(UsageError):
        parse_since(text)
    assert parse_since("17") == 17
    assert parse_since("2026-01-01T00:00:00Z") == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("text", ["", "0%", "5", "101%", "-1%", "x%"])
def test_a_sample_is_a_share_of_a_hundred(text: str) -> None:
    """Nothing is no sample."""
    with pytest.raises(UsageError):
        parse_share(text)
    assert parse_share("5%") == 0.05
    assert parse_share("0.5 %") == 0.005


def test_the_command_takes_all_of_it(archived: Project, tmp_path: Path) -> None:
    """And exits with 2 where options contradict each other, with 1 where a head is gone."""
    head = tmp_path / "head.json"
    head.write_text(archived.run("head", "--json").stdout)
    done = archived.run("verify", "--sample", "25%", "--seed", "3", "--deep", "--head", str(head), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["streams"][0]["seed"] == 3
    assert report["streams"][0]["digests_compared"] > 0
    assert archived.run("verify", "--quick", "--deep").returncode == 2
    assert archived.run("verify", "--seed", "1").returncode == 2
    assert archived.run("verify", "--since", "yesterday").returncode == 2
    shown = archived.run("verify", "--since", "6").stdout
    assert "after commit 6 (2 of 8 files)" in shown
    data_file(archived, FILES).unlink()
    os.unlink(archived.table / layout.entry_name(FILES))  # noqa: PTH108 - as someone would who covers tracks
    assert archived.run("verify").returncode == 0
    done = archived.run("verify", "--head", str(head))
    assert done.returncode == 1
    assert "cut off" in done.stderr


def test_a_head_that_was_not_there_to_compare_with_is_no_success(archived: Project, tmp_path: Path) -> None:
    """A stream that was named must have one in the file; without names, one of them at least."""
    kept = json.loads(archived.run("head", "--json").stdout)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**kept, "streams": {"event": kept["streams"]["events"]}}))
    for names in ((), ("events",)):
        done = archived.run("verify", *names, "--head", str(other), "--no-heads")
        assert done.returncode == 1
        assert "holds no head of this stream" in " ".join(done.stderr.split())
    done = archived.run("verify", "--head", str(other), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["without_head"] == ["events"]
    both = tmp_path / "both.json"
    both.write_text(json.dumps(kept))
    text = archived.config_file.read_text()
    archived.config_file.write_text(text + "  later:\n    source: {type: files, path: landing}\n")
    assert archived.run("verify", "--head", str(both)).returncode == 0
    assert archived.run("verify", "events", "--head", str(both)).returncode == 0
    assert archived.run("verify", "later", "--head", str(both)).returncode == 1


def test_a_table_that_is_gone_is_missed_by_its_head(archived: Project, tmp_path: Path) -> None:
    """Otherwise it looks like a stream that has none yet."""
    head = tmp_path / "head.json"
    head.write_text(archived.run("head", "--json").stdout)
    archived.table.rename(tmp_path / "elsewhere")
    assert archived.run("verify").returncode == 0
    done = archived.run("verify", "--head", str(head))
    assert done.returncode == 1
    assert "cut off" in done.stderr
