"""Ingest under fire: killed at any moment, run several times at once, refused by the disk.

After each: every event of the input is in the archive once, and the archive proves whole.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import appending, durable
from event_archive.archive import commit as commit_module
from event_archive.archive.history import log_versions
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import ArchiveDamaged, CommitConflict, StorageError
from event_archive.ingest import ingest_stream
from event_archive.storage import folder as folder_module
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project

KILLS = 60


def some_lines(count: int, seed: int) -> list[bytes]:
    """Lines that are all different."""
    generator = random.Random(seed)
    return [b'{"n": %d, "r": "%x"}' % (n, generator.getrandbits(200)) for n in range(count)]


def write_files(project: Project, *, files: int, lines: int) -> dict[str, list[bytes]]:
    """Puts files into the landing folder; what the archive must hold of them in the end."""
    expected = {}
    for number in range(files):
        content = some_lines(lines, number)
        project.write(f"{number % 3}/{number}.jsonl", b"\n".join(content) + b"\n")
        expected[f"file:{number % 3}/{number}.jsonl"] = content
    return expected


def start_ingest(project: Project) -> subprocess.Popen[str]:
    """Starts `event-archive ingest` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "event_archive", "ingest", "--config", str(project.config_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_whole(project: Project, expected: dict[str, list[bytes]]) -> None:
    """Each event once, and proof of it."""
    assert project.events() == expected
    assert verify_stream(project.config(), "events").damages == ()


@pytest.mark.slow
def test_ingest_killed_at_random_moments_loses_and_doubles_nothing(project: Project) -> None:
    """Killed again and again, in forks that have imported everything, so that the kills fall into the work."""
    project.configure(stream="commit_bytes: 20000")
    expected = write_files(project, files=150, lines=80)
    generator = random.Random(5)
    kills = survived = 0
    longest_seconds, commits_before = 0.08, 0
    while kills < KILLS:
        child = os.fork()
        if child == 0:
            try:
                project.ingest()
            finally:
                os._exit(0)
        # Where a run gets through, files that have grown give the next one work.
        time.sleep(generator.uniform(0, longest_seconds))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            kills += 1
        else:
            survived += 1
            number = survived % 150
            more = some_lines(400, 1000 + survived)
            path = project.landing / f"{number % 3}/{number}.jsonl"
            with path.open("ab") as file:
                file.write(b"\n".join(more) + b"\n")
            expected[f"file:{number % 3}/{number}.jsonl"] += more
        if kills % 5 == 0:
            commits = read_snapshot(project.store).commits  # at no moment is the archive unreadable
            if commits == commits_before:  # a slow machine: let it come further before it is killed
                longest_seconds *= 1.5
            commits_before = commits
    assert len(log_versions(project.store)) > KILLS / 4, "the kills came before any work was done"
    assert project.ingest().problems == ()
    assert_whole(project, expected)


@pytest.mark.slow
def test_two_ingests_of_a_stream_at_once_archive_each_event_once(project: Project) -> None:
    """And the loser of a race says plainly what happened."""
    project.configure(stream="commit_bytes: 100000")
    expected = write_files(project, files=60, lines=1500)
    running = [start_ingest(project) for _ in range(3)]
    finished = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], finished
    assert any("another commit to this stream came first" in stderr for _, stderr in finished), finished
    assert_whole(project, expected)


def test_a_writer_that_was_paused_before_its_commit_can_not_commit_what_another_has(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second writer archives everything while the first stands still with its batch written."""
    expected = write_files(project, files=3, lines=10)
    paused, go_on = threading.Event(), threading.Event()
    original = commit_module.commit
    results = []

    def commit_late(*arguments: object, **options: object) -> object:
        if threading.current_thread().name == "zombie" and not paused.is_set():
            paused.set()
            assert go_on.wait(60)
        return original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(appending, "commit", commit_late)
    zombie = threading.Thread(target=lambda: results.append(project.ingest()), name="zombie")
    zombie.start()
    assert paused.wait(60)
    assert project.ingest().events == 30
    go_on.set()
    zombie.join(60)
    (result,) = results
    assert result.events == 0
    assert "another commit to this stream came first" in result.warnings[0]
    assert_whole(project, expected)
    assert (
        not list(project.table.glob("*/*.parquet"))
        or verify_stream(project.config(), "events").unreferenced == ()
    )


def test_two_first_writers_create_one_table(project: Project) -> None:
    """Both at once, many times."""
    expected = write_files(project, files=1, lines=5)
    barrier = threading.Barrier(8)
    failures: list[BaseException] = []

    def run() -> None:
        barrier.wait()
        try:
            project.ingest()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert_whole(project, expected)


def test_a_table_that_another_writer_fills_meanwhile_has_not_lost_its_log(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other creates it and archives everything just after this one has found no log."""
    expected = write_files(project, files=1, lines=5)

    def read_before_the_other_writes(*arguments: Any, **named: Any) -> Any:
        snapshot = read_snapshot(*arguments, **named)
        monkeypatch.undo()
        assert project.ingest().events == 5
        return snapshot

    monkeypatch.setattr(appending, "read_snapshot", read_before_the_other_writes)
    assert project.ingest().events == 0
    assert_whole(project, expected)


def test_a_commit_that_names_no_new_version_is_refused(project: Project) -> None:
    """The fence itself: a head that isn't the newest entry can't be built upon."""
    write_files(project, files=1, lines=5)
    project.ingest()
    stale = commit_module.Head(0, None)
    batch = commit_module.Batch(None, 0, {}, {})
    with pytest.raises(CommitConflict):
        commit_module.commit(project.store, stale, batch, ingested_at=dt.datetime.now(dt.UTC))


def test_a_file_of_a_commit_that_landed_is_never_removed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log entry is linked, then the disk fails: the commit may count, so its file must stay."""
    expected = write_files(project, files=1, lines=5)
    original = durable.publish_new

    def fail_after_link(
        folder: Path, name: str, pending_name: str, content: bytes, *, mode: int | None
    ) -> bool:
        original(folder, name, pending_name, content, mode=mode)
        if name.endswith("1.json"):
            raise OSError(5, "Input/output error", str(folder))
        return True

    monkeypatch.setattr(folder_module, "publish_new", fail_after_link)
    with pytest.raises(StorageError, match="Input/output error"):
        project.ingest()
    monkeypatch.undo()
    assert project.ingest().events == 0
    assert_whole(project, expected)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_a_clear_error_and_nothing_is_half_visible(project: Project) -> None:
    """On a tmpfs of 4 MB; when there is room, it goes on."""
    archive = project.folder / "archive"
    archive.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(archive)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let the test mount a file system")
    try:
        project.configure(stream="commit_bytes: 1 MB")
        expected = {}
        for number in range(8):
            content = [random.Random(n * 8 + number).randbytes(500).replace(b"\n", b"x") for n in range(2000)]
            project.write(f"{number}.jsonl", b"\n".join(content) + b"\n")
            expected[f"file:{number}.jsonl"] = content
        for _ in range(2):
            failed = project.run("ingest")
            assert failed.returncode == 1
            assert "The disk is full: make room" in failed.stderr
            assert "Traceback" not in failed.stderr
        assert verify_stream(project.config(), "events").damages == ()
        archived = project.events()
        assert archived
        assert all(values == expected[source][: len(values)] for source, values in archived.items())
        subprocess.run(["mount", "-o", "remount,size=64m", str(archive)], check=True)
        assert project.run("ingest").returncode == 0
        assert_whole(project, expected)
    finally:
        subprocess.run(["umount", str(archive)], check=True)


def test_an_interrupted_ingest_says_so_and_leaves_no_trace(project: Project) -> None:
    """Ctrl-C is an ordinary event: nothing half-written stays referenced, and the next run goes on."""
    expected = write_files(project, files=20, lines=100)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_stream(project.config(), "events", on_progress=interrupt)
    assert verify_stream(project.config(), "events").unreferenced == ()
    assert project.ingest().problems == ()
    assert_whole(project, expected)


def test_a_file_that_is_removed_before_its_commit_is_never_acknowledged(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a cleaning machine whose clock is a day ahead; the source has the events, and repair brings them back."""
    write_files(project, files=1, lines=5)
    original = commit_module.commit

    def commit_after_cleaning(*arguments: Any, **named: Any) -> Any:
        for path in project.table.glob("ingest_date=*/*.parquet"):
            path.unlink()
        return original(*arguments, **named)

    monkeypatch.setattr(appending, "commit", commit_after_cleaning)
    with pytest.raises(ArchiveDamaged, match="removed before its commit"):
        project.ingest()
    monkeypatch.undo()
    assert project.run("repair", "events", "--from-source").returncode == 0
    assert project.run("verify").returncode == 0
    assert len(project.events()) == 1
