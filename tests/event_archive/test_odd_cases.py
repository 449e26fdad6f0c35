"""Cases that nobody thinks of at first: each lost, doubled or hid something once, or ended in a traceback."""

from __future__ import annotations

import gzip
import shutil
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.archive.history import iter_commits
from event_archive.errors import ArchiveDamaged
from event_archive.ingest import ingest_stream
from event_archive.sources.files.positions import decode_claims
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from tests.conftest import Project


@pytest.mark.parametrize("settled", [False, True])
def test_half_a_line_that_is_written_while_the_file_is_read_is_left(
    project: Project, *, settled: bool
) -> None:
    """That the file was still before it was opened says nothing about what came since."""
    project.configure("settle_seconds: 1", "commit_bytes: 4096")
    lines = [b'{"n": %d, "text": "some more"}' % n for n in range(3000)]
    path = project.write("a.jsonl", b"\n".join(lines) + b"\n")
    has_written: list[bool] = []

    def write_on(_: object) -> None:
        if not has_written:
            has_written.append(True)
            with path.open("ab") as file:
                file.write(b'{"late": "hal')

    ingest_stream(project.config(), "events", settled=settled, on_progress=write_on)
    with path.open("ab") as file:
        file.write(b'f"}\n')
    assert project.ingest().problems == ()
    assert project.events() == {"file:a.jsonl": [*lines, b'{"late": "half"}']}


def test_a_lost_log_is_no_new_table(project: Project) -> None:
    """Beginning anew would archive everything a second time; and nothing is whole about it."""
    project.write("a.jsonl", b"one\n")
    project.ingest()
    shutil.rmtree(project.table / layout.LOG_FOLDER)
    with pytest.raises(ArchiveDamaged, match="no log entries"):
        project.ingest()
    assert not verify_stream(project.config(), "events").is_whole


def test_a_log_whose_end_was_cut_off_is_told_by_the_files_of_its_commits(project: Project) -> None:
    """One file more than the log knows is what an interrupted write leaves; later ones aren't."""
    project.configure(stream="commit_bytes: 4096")
    project.write("a.jsonl", b"".join(b'{"n": %d}\n' % n for n in range(3000)))
    project.ingest()
    for entry in sorted((project.table / layout.LOG_FOLDER).glob("*.json"))[-2:]:
        entry.unlink()
    (damage,) = verify_stream(project.config(), "events").damages
    assert "cut off" in damage.reason


def test_an_entry_that_is_a_copy_of_another_is_the_one_that_is_named(project: Project) -> None:
    """Not the one that it was copied from, nor the data file of that one."""
    project.configure(stream="commit_bytes: 4096")
    project.write("a.jsonl", b"".join(b'{"n": %d}\n' % n for n in range(3000)))
    project.ingest()
    *_, before, newest = sorted((project.table / layout.LOG_FOLDER).glob("*.json"))
    shutil.copy(before, newest)
    assert [damage.path for damage in verify_stream(project.config(), "events").damages] == [str(newest)]
    assert project.run("status").returncode == 1


def test_a_log_entry_far_beyond_the_others_is_a_gap_not_a_crash(project: Project) -> None:
    """However many are missing in between."""
    project.write("a.jsonl", b"one\n")
    project.ingest()
    (project.table / layout.entry_name(1)).rename(project.table / layout.entry_name(10**15))
    assert any(
        "is missing, and all up to" in damage.reason
        for damage in verify_stream(project.config(), "events").damages
    )


def test_every_entry_is_proved_before_it_is_used(project: Project) -> None:
    """A damaged one in the middle is a sentence, not a traceback."""
    for number in range(4):
        project.write(f"{number}.jsonl", b"%d\n" % number)
        project.ingest()
    path = project.table / layout.entry_name(2)
    path.write_bytes(path.read_bytes().replace(b'"records"', b'"recordz"'))
    for command in ("status", "ingest"):
        done = project.run(command)
        assert (done.returncode, "Traceback" in done.stderr, path.name in done.stderr) == (1, False, True)


def test_replay_proves_a_data_file_before_it_parses_it(project: Project) -> None:
    """Any byte of it: one sentence that names the file, and nothing is left behind."""
    project.write("a.jsonl", b"one\ntwo\n")
    project.ingest()
    (path,) = project.table.glob("*/*.parquet")
    content = path.read_bytes()
    for place in (0, 4, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        done = project.run("replay", "events", "--to", "out")
        assert (done.returncode, "Traceback" in done.stderr, path.name in done.stderr) == (1, False, True)
        assert list((project.folder / "out").iterdir()) == []
    path.unlink()
    assert path.name in project.run("replay", "events", "--to", "out").stderr


def test_a_name_that_was_a_file_and_then_a_folder_is_replayed(project: Project) -> None:
    """Both, side by side."""
    project.write("a.jsonl.gz", gzip.compress(b"packed\n"))
    project.write("b.jsonl", b"plain\n")
    project.ingest()
    (project.landing / "b.jsonl").unlink()
    project.write("a.jsonl/x.jsonl", b"in a\n")
    project.write("b.jsonl/x.jsonl", b"in b\n")
    project.ingest()
    assert project.run("replay", "events", "--to", "out").returncode == 0
    out = project.folder / "out"
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == {
        "a.2.jsonl": b"packed\n",
        "a.jsonl/x.jsonl": b"in a\n",
        "b.2.jsonl": b"plain\n",
        "b.jsonl/x.jsonl": b"in b\n",
    }


def test_a_damaged_file_from_the_future_can_be_accepted(project: Project) -> None:
    """Its time can't be trusted, so it is looked at again instead."""
    path = project.write("a.jsonl.gz", gzip.compress(b"one\ntwo\n" * 500)[:-20], age_seconds=-86400)
    assert len(project.ingest().problems) == 1
    assert project.run("sources", "accept", str(path)).returncode == 0
    assert project.ingest().problems == ()


def test_copies_that_take_several_commits_are_warned_of_too(project: Project) -> None:
    """New is what wasn't there when the run began."""
    project.configure(stream="commit_bytes: 4096")
    for name in ("a.jsonl", "b.jsonl"):
        project.write(name, b"".join(b'{"n": %d}\n' % n for n in range(3000)))
    (warning,) = project.ingest().warnings
    assert "file:a.jsonl" in warning
    assert "file:b.jsonl" in warning


def test_blank_lines_make_commits_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no records, but where they lie has to be remembered, and memory is bounded."""
    monkeypatch.setattr("event_archive.sources.files.ingest._BLANK_LINES_A_COMMIT", 10_000)
    project.configure(stream="commit_bytes: 8192")
    project.write("a.jsonl", b"one\n" + b"\n" * 200_000 + b"two\n")
    project.ingest()
    blank = [
        len(c.blank_before) for commit in iter_commits(project.store) for c in decode_claims(commit.claims)
    ]
    assert sum(blank) == 200_000
    assert max(blank) < 20_000
    assert project.run("replay", "events", "--to", "out").returncode == 0
    assert (project.folder / "out" / "a.jsonl").read_bytes() == (project.landing / "a.jsonl").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "archive: &a [*a]\nwarehouse: w\n",
        "&a {b: *a}\n",
        "archive: ~nosuchuser/x\nwarehouse: w\n",
        'archive: "a\\0b"\nwarehouse: w\n',
        "archive: 2020-99-99\nwarehouse: w\n",
        "archive: landing/archive\nwarehouse: w\nstreams:\n  events:\n    source: {type: files, path: landing}\n",
    ],
)
def test_odd_configurations_are_a_sentence_for_each_mistake(project: Project, text: str) -> None:
    """Cyclic aliases, unknown homes, NULs, impossible dates, an archive inside its own landing folder."""
    project.config_file.write_text(text)
    done = project.run("ingest")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert all(line.startswith(str(project.config_file)) for line in done.stderr.splitlines())
