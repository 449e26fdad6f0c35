"""Exactly once, whatever happens to a file between two runs: one test for each row of the table in `docs/files.md`."""

from __future__ import annotations

import gzip
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
import zstandard

from event_archive.sources.files.positions import decode_source_id

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project

LINES = [b'{"n": %d}' % n for n in range(1000)]
TEXT = b"\n".join(LINES) + b"\n"


def pack(name: str, data: bytes) -> bytes:
    """Compresses as the name says."""
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.compress(data) if name.endswith(".zst") else data


@pytest.mark.parametrize(
    "name", ["a.jsonl", "b.ndjson", "c.json", "d.jsonl.gz", "e.ndjson.zst", "deep/er/f.json.gz"]
)
def test_every_kind_of_file_is_archived_line_by_line(project: Project, name: str) -> None:
    """Plain and compressed, at any depth."""
    project.write(name, pack(name, TEXT))
    assert project.ingest().problems == ()
    assert project.events() == {f"file:{name}": LINES}


def test_other_files_are_left_alone(project: Project) -> None:
    """Only the extensions of event files count."""
    project.write("notes.txt", TEXT)
    project.write("a.jsonl.bak", TEXT)
    assert project.ingest().events == 0


def test_a_record_is_the_exact_bytes_of_its_line(project: Project) -> None:
    """Carriage returns stay, blank lines are no records, bytes that are neither UTF-8 nor JSON are archived."""
    project.write("a.jsonl", b'\n\n{"a":1}\r\n\r\n\xff\xfe\x00\n not json \n\n\n{"b":2}\n\n')
    project.ingest()
    assert project.events() == {
        "file:a.jsonl": [b'{"a":1}\r', b"\r", b"\xff\xfe\x00", b" not json ", b'{"b":2}']
    }


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_an_unchanged_file_is_not_opened_again(project: Project, name: str) -> None:
    """A file that can't be read any more proves that nobody tried."""
    path = project.write(name, pack(name, TEXT))
    project.ingest()
    before = path.stat()
    path.unlink()
    os.mkfifo(path)  # opening it for reading would be a problem
    path.unlink()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed_in_secret = project.ingest()
    assert [p.source for p in changed_in_secret.problems] == [str(path)], "the change time gives it away"
    again = project.ingest()
    assert again.commits == 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_of_a_grown_file_only_the_new_part_is_archived(project: Project, name: str) -> None:
    """Also when compressed, where growing means another member."""
    project.write(name, pack(name, TEXT))
    project.ingest()
    project.write(name, pack(name, TEXT) + pack(name, b"more\nand more\n"), age_seconds=10)
    second = project.ingest()
    assert (second.events, second.problems) == (2, ())
    assert project.events() == {f"file:{name}": [*LINES, b"more", b"and more"]}


def test_a_touched_file_is_looked_at_once_and_archived_never_again(project: Project) -> None:
    """The new times are recorded, so that the file needn't be hashed at each run."""
    path = project.write("a.jsonl", TEXT)
    project.ingest()
    os.utime(path, (1_500_000_000.5, 1_500_000_000.5))
    touched = project.ingest()
    assert (touched.events, touched.problems) == (0, ())
    assert project.ingest().commits == 0
    assert project.events() == {"file:a.jsonl": LINES}


def test_a_line_without_an_end_is_left_while_its_file_may_still_grow(project: Project) -> None:
    """And taken when it has got its end."""
    project.write("a.jsonl", b"one\ntw", age_seconds=0)
    assert project.ingest().events == 1
    assert project.ingest().events == 0
    project.write("a.jsonl", b"one\ntwo\n", age_seconds=0)
    assert project.ingest().events == 1
    assert project.events() == {"file:a.jsonl": [b"one", b"two"]}


def test_a_line_without_an_end_is_taken_when_the_file_has_been_still(project: Project) -> None:
    """`settle_seconds` after the last write, although nothing about the file has changed."""
    project.configure("settle_seconds: 0.3")
    project.write("a.jsonl", b"one\ntwo", age_seconds=0)
    assert project.ingest().events == 1
    deadline = time.monotonic() + 20
    while project.ingest().events == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert project.events() == {"file:a.jsonl": [b"one", b"two"]}
    assert project.ingest().commits == 0


def test_settled_takes_a_line_without_an_end_now(project: Project) -> None:
    """However young the file is."""
    project.write("a.jsonl", b"one\ntwo", age_seconds=0)
    assert project.ingest(settled=True).events == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_taken_line_that_goes_on_later_is_a_change(project: Project, name: str) -> None:
    """The archive never changes what it has."""
    project.write(name, pack(name, b"one\ntwo"))
    project.ingest()
    path = project.write(name, pack(name, b"one\ntwo and a half\n"))
    (problem,) = project.ingest().problems
    assert problem.source == str(path)
    assert "gone on" in problem.reason
    assert project.events() == {f"file:{name}": [b"one", b"two"]}


def test_a_taken_line_that_only_gets_its_end_is_no_change(project: Project) -> None:
    """The line is the same; what comes after it is archived."""
    project.write("a.jsonl", b"one\ntwo")
    project.ingest()
    project.write("a.jsonl", b"one\ntwo\n", age_seconds=50)
    assert project.ingest().problems == ()
    project.write("a.jsonl", b"one\ntwo\n\nthree\n", age_seconds=40)
    assert project.ingest().problems == ()
    assert project.events() == {"file:a.jsonl": [b"one", b"two", b"three"]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize(
    ("after", "words"),
    [
        (TEXT.replace(b"500", b"5oo") + b"new\n", "has changed before byte"),
        (TEXT[:-9], "is shorter"),
        (b"", "is shorter"),
    ],
)
def test_of_a_changed_file_nothing_is_archived_and_others_go_on(
    project: Project, name: str, after: bytes, words: str
) -> None:
    """The problem names file, position and remedy; it stays until somebody decides."""
    path = project.write(name, pack(name, TEXT))
    project.ingest()
    path.write_bytes(pack(name, after))
    project.write("other.jsonl", b"other\n")
    for others in (1, 0):
        result = project.ingest(settled=True)
        (problem,) = result.problems
        assert problem.source == str(path)
        assert words in problem.reason
        assert str(len(TEXT)) in problem.reason
        assert "event-archive sources accept" in problem.reason
        assert result.events == others
    assert project.events() == {f"file:{name}": LINES, "file:other.jsonl": [b"other"]}
    assert project.run("ingest").returncode == 1


def test_accepting_a_changed_file_archives_it_as_a_new_generation(project: Project) -> None:
    """Beside the old one, which stays."""
    project.write("a.jsonl", b"one\ntwo\n")
    project.ingest()
    path = project.write("a.jsonl", b"uno\ndos\n", age_seconds=60)
    assert project.run("ingest").returncode == 1
    assert project.run("sources", "accept", str(path)).returncode == 0
    assert project.events() == {"file:a.jsonl": [b"one", b"two"], "file:a.jsonl#2": [b"uno", b"dos"]}
    project.write("a.jsonl", b"uno\ndos\ntres\n", age_seconds=30)
    assert project.ingest().problems == ()
    assert project.events()["file:a.jsonl#2"] == [b"uno", b"dos", b"tres"]
    project.write("a.jsonl", b"", age_seconds=20)
    assert project.run("sources", "accept", str(path)).returncode == 0
    assert project.ingest().problems == ()


def test_there_is_nothing_to_accept_about_a_file_that_is_as_it_was(project: Project) -> None:
    """Accepting by mistake must not archive events twice."""
    path = project.write("a.jsonl", TEXT)
    assert project.run("sources", "accept", str(path)).returncode == 2
    project.ingest()
    refused = project.run("sources", "accept", str(path))
    assert (refused.returncode, "nothing to accept" in refused.stderr) == (2, True)
    elsewhere = project.run("sources", "accept", "/tmp/elsewhere.jsonl")  # noqa: S108 - never opened
    assert (elsewhere.returncode, elsewhere.stderr.count("\n")) == (2, 1)
    assert project.events() == {"file:a.jsonl": LINES}


def test_a_file_that_is_gone_is_fine_and_listed(project: Project) -> None:
    """The archive has it."""
    project.write("a.jsonl", TEXT).unlink()
    project.write("b.jsonl", TEXT)
    project.ingest()
    (project.landing / "b.jsonl").unlink()
    assert project.ingest().problems == ()
    listed = project.run("status", "--gone")
    assert (listed.returncode, "b.jsonl" in listed.stdout) == (0, True)


def test_the_same_bytes_under_another_name_are_archived_with_a_warning(project: Project) -> None:
    """A faithful archive never drops; the warning names both, also when both are new in one run."""
    project.write("a.jsonl", TEXT)
    project.ingest()
    project.write("b.jsonl", TEXT)
    project.write("c.jsonl.gz", gzip.compress(TEXT))
    result = project.ingest()
    assert result.problems == ()
    assert [("file:a.jsonl" in w, "file:b.jsonl" in w, "file:c.jsonl.gz" in w) for w in result.warnings] == [
        (True, True, False),
        (True, False, True),
    ]
    assert set(project.events()) == {"file:a.jsonl", "file:b.jsonl", "file:c.jsonl.gz"}


def test_what_can_not_be_read_is_a_problem_and_others_go_on(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders with such a name, dangling links, links that lead outside, pipes and sockets; none is opened."""
    outside = tmp_path / "outside.jsonl"
    outside.write_bytes(b"secret\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.jsonl").write_bytes(b"secret\n")
    landing = project.landing
    (landing / "folder.jsonl").mkdir()
    (landing / "dangling.jsonl").symlink_to(landing / "nowhere")
    (landing / "outside.jsonl").symlink_to(outside)
    (landing / "outside").symlink_to(tmp_path / "outside")
    os.mkfifo(landing / "pipe.jsonl")
    project.write("good.jsonl", b"good\n")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(landing)  # a socket's whole path may be too long for its address
        listening.bind("socket.jsonl")
        started = time.monotonic()
        result = project.ingest()
    assert time.monotonic() - started < 10, "a pipe was opened"
    assert sorted(problem.source.rpartition("/")[2] for problem in result.problems) == [
        "dangling.jsonl",
        "folder.jsonl",
        "outside",
        "outside.jsonl",
        "pipe.jsonl",
        "socket.jsonl",
    ]
    assert project.events() == {"file:good.jsonl": [b"good"]}


def test_a_file_without_permission_is_a_problem_and_others_go_on(project: Project) -> None:
    """A file and a folder that the system refuses (tried as another user where the tests run as root)."""
    project.write("closed.jsonl", TEXT).chmod(0)
    project.write("closed/a.jsonl", TEXT).parent.chmod(0)
    project.write("good.jsonl", b"good\n")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                (project.folder / "archive").mkdir()
                os.chown(project.folder / "archive", 65534, 65534)
                for folder in [project.folder, *project.folder.parents]:
                    if folder.stat().st_uid == 0 and folder != folder.parent and "pytest" in str(folder):
                        folder.chmod(0o755)
                os.setuid(65534)
            sources = sorted(problem.source.rpartition("/")[2] for problem in project.ingest().problems)
            status = 0 if sources == ["closed", "closed.jsonl"] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert project.events() == {"file:good.jsonl": [b"good"]}


def test_a_link_inside_the_folder_is_followed(project: Project) -> None:
    """It is a name for a file in the folder like any other; links to folders don't lead in circles."""
    project.write("sub/a.jsonl", TEXT)
    (project.landing / "b.jsonl").symlink_to("sub/a.jsonl")
    (project.landing / "sub" / "up").symlink_to("..")
    assert project.ingest().problems == ()
    assert project.events() == {"file:sub/a.jsonl": LINES, "file:b.jsonl": LINES}


def test_names_that_are_hard_to_write_are_told_apart(project: Project) -> None:
    """Bytes that are no UTF-8, signs that the source id gives a meaning to, line ends, quotes."""
    names = [
        b"\xff\xfe.jsonl",
        b"a#2.jsonl",
        b"a%232.jsonl",
        b"a%2G%.jsonl",
        b"a\nb.jsonl",
        b'it\'s "x".jsonl',
        "ü☃.jsonl".encode(),
    ]
    for number, name in enumerate(names):
        (project.landing / os.fsdecode(name)).write_bytes(b"%d\n" % number)
    project.ingest()
    assert sorted(values[0] for values in project.events().values()) == [b"%d" % n for n in range(7)]
    assert {"file:ü☃.jsonl", "file:a#2.jsonl", "file:a%2G%.jsonl"} < set(project.events())
    assert {os.fsencode(decode_source_id(source_id)[0]) for source_id in project.events()} == set(names)
    assert project.ingest().events == 0


def test_a_landing_folder_that_does_not_exist_is_a_problem_with_a_remedy(project: Project) -> None:
    """Not an empty stream."""
    project.landing.rmdir()
    (problem,) = project.ingest().problems
    assert "does not exist" in problem.reason
