"""Which event files a landing folder holds, found without opening any.

What doesn't live here: what is in the files (`reading`).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = tuple(
    f"{plain}{compressed}" for plain in (".jsonl", ".ndjson", ".json") for compressed in ("", ".gz", ".zst")
)


@dataclass(frozen=True, slots=True)
class LandingFile:
    """A file that may be opened: regular, inside the landing folder."""

    path: str
    """Relative to the landing folder, `/` between folders."""
    opened_as: str
    """Absolute path without links."""
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that has the name of an event file, or of a folder of them, and can't be read."""

    path: str
    reason: str


def scan(landing: Path) -> tuple[list[LandingFile], list[Unreadable]]:
    """Lists the event files below `landing`, in order of path, and what can't be read.

    Links to files are followed when they stay inside the folder; links to folders never are, since what they show
    inside the folder is found under its own name.
    """
    root = os.path.realpath(landing)
    files: list[LandingFile] = []
    unreadable: list[Unreadable] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))  # noqa: PTH118 - speed: 100,000 files
        except OSError as error:
            if folder or not isinstance(error, FileNotFoundError):
                reason = f"the folder can't be read ({error.strerror})"
            else:
                reason = "does not exist; create this landing folder, or correct `source.path` of the stream"
            unreadable.append(Unreadable(folder, reason))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            is_event_file = entry.name.endswith(EXTENSIONS)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
                if is_event_file:
                    unreadable.append(
                        Unreadable(path, "is a folder with the name of an event file; rename the folder")
                    )
                continue
            if entry.is_symlink():
                found = _look_behind_link(root, path, entry, is_event_file=is_event_file)
            else:
                found = _look(path, entry) if is_event_file else None
            if isinstance(found, LandingFile):
                files.append(found)
            elif found is not None:
                unreadable.append(Unreadable(path, found))
    files.sort(key=lambda file: file.path)
    unreadable.sort(key=lambda problem: problem.path)
    return files, unreadable


def _look(path: str, entry: os.DirEntry[str]) -> LandingFile | str | None:
    """The file that an entry stands for, or why it can't be read, or None if it is gone."""
    try:
        info = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # since it was listed, which is fine
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return _regular(path, entry.path, info)


def _look_behind_link(
    root: str, path: str, entry: os.DirEntry[str], *, is_event_file: bool
) -> LandingFile | str | None:
    """As `_look`, for a link; links that have nothing to do with events are None."""
    target = os.path.realpath(entry.path)
    is_folder = os.path.isdir(target)  # noqa: PTH112 - speed, as above
    if not is_event_file and not is_folder:
        return None
    if target != root and not target.startswith(root.rstrip("/") + "/"):
        there = os.path.lexists(target)
        return f"is a link that leads {'outside the landing folder, and was not followed' if there else 'nowhere'}"
    if is_folder:
        return "is a link to a folder, with the name of an event file" if is_event_file else None
    try:
        info = os.lstat(target)
    except OSError as error:
        return f"is a link that leads nowhere ({error.strerror})"
    return _regular(path, target, info)


def _regular(path: str, opened_as: str, info: os.stat_result) -> LandingFile | str:
    if not stat.S_ISREG(info.st_mode):
        return f"is {_kind(info.st_mode)}, not a file; it was not opened"
    return LandingFile(path, opened_as, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if test(mode):
            return name
    return "something else"
