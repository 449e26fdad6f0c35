"""The disk that loses what was not synced, held against small pieces of work that are really traced."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from campaign.crash.calls import read_calls
from campaign.crash.lossy_disk import CUT, EMPTY, LOST, REMOVED, LossyDisk
from campaign.crash.strace import strace_command, why_not

if TYPE_CHECKING:
    from pathlib import Path

NAMES = "import os; new, old, other, a, b = (os.path.abspath(name) for name in ('new', 'old', 'other', 'a', 'a/b'));"
WRITE = NAMES + "file = open(new, 'xb'); file.write(b'12345678'); file.flush();"
SYNC_FILE = "os.fsync(file.fileno());"
SYNC_FOLDER = "folder = os.open('.', os.O_RDONLY); os.fsync(folder);"


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    """A folder with one file, which work is done in."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path / "traced"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    return folder


def left(traced: Path, work: str, way: str) -> dict[str, bytes]:
    """Files that a power cut leaves after a piece of work."""
    before, trace, after = (traced.with_name(name) for name in ("before", "trace", "after"))
    traced.rename(before)
    traced.mkdir()
    for path in before.iterdir():
        (traced / path.name).write_bytes(path.read_bytes())
    command = [
        *strace_command(),
        "-f",
        "-y",
        "-xx",
        "-s",
        "10000",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        work,
    ]
    subprocess.run(command, cwd=traced, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=True)
    disk = LossyDisk(before)
    for call in read_calls(trace):
        disk.play(call, traced)
    disk.write_to(after, way)
    return {path.name: path.read_bytes() for path in after.iterdir()}


@pytest.mark.parametrize(
    ("work", "way", "expected"),
    [
        (WRITE, LOST, {"old": b"old"}),
        (WRITE, EMPTY, {"old": b"old", "new": b""}),
        (WRITE, CUT, {"old": b"old", "new": b"1234"}),
        (WRITE + SYNC_FILE, LOST, {"old": b"old"}),
        (WRITE + SYNC_FILE, EMPTY, {"old": b"old", "new": b"12345678"}),
        (WRITE + SYNC_FOLDER, LOST, {"old": b"old", "new": b""}),
        (WRITE + SYNC_FILE + SYNC_FOLDER, LOST, {"old": b"old", "new": b"12345678"}),
        (WRITE + SYNC_FILE + "os.replace(new, old)", LOST, {"old": b"old"}),
        (WRITE + SYNC_FILE + "os.replace(new, old)", EMPTY, {"old": b"12345678"}),
        (WRITE + "os.replace(new, old);" + SYNC_FOLDER, LOST, {"old": b""}),
        (WRITE + SYNC_FILE + "os.link(new, other); os.unlink(old);", REMOVED, {}),
        (WRITE + SYNC_FILE + "os.unlink(old);" + SYNC_FOLDER, LOST, {"new": b"12345678"}),
        (
            WRITE + SYNC_FILE + "file.seek(2); file.write(b'xx'); file.flush();" + SYNC_FOLDER,
            LOST,
            {"old": b"old", "new": b"12345678"},
        ),
        (
            WRITE + "file.seek(2); file.write(b'xx'); file.flush();" + SYNC_FILE,
            EMPTY,
            {"old": b"old", "new": b"12xx5678"},
        ),
        ("open('old', 'ab').write(b'er')", CUT, {"old": b"olde"}),
        ("open('old', 'wb').write(b'er')", LOST, {"old": b"old"}),
    ],
)
def test_what_was_synced_is_kept_and_nothing_else_for_sure(
    traced: Path, work: str, way: str, expected: dict[str, bytes]
) -> None:
    """Bytes with their file, names with their folder."""
    assert left(traced, work, way) == expected


def test_undisturbed_work_is_rebuilt_as_it_was(traced: Path) -> None:
    """Else what is left after a power cut would prove nothing."""
    work = (
        WRITE + SYNC_FILE + "os.mkdir(a); os.rename(new, b); os.rename(b, other); os.rmdir(a);" + SYNC_FOLDER
    )
    rebuilt = left(traced, work, LOST)
    assert rebuilt == {path.name: path.read_bytes() for path in traced.iterdir()}
