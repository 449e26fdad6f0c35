"""Files of the landing folder: written out of sight, then shown whole under a name that nobody had before.

What the lines mean isn't known here.
"""

from __future__ import annotations

import contextlib
import filecmp
import gzip
import itertools
import os
import uuid
from typing import IO, TYPE_CHECKING, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path, PurePosixPath

    from demo.outlet import Line

# Readers take files by their suffix; this one is none of theirs.
HIDDEN_SUFFIX = ".part"


class LineFile(Protocol):
    """What lines are written to."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""

    def close(self) -> object:
        """Write what is left."""


class LandingFolder:
    """A simulated stream's landing folder, as an `Outlet`.

    A simulation that is stopped begins anew and writes the same files again, so nothing has to be confirmed before they are shown.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, server: str, path: PurePosixPath) -> _LandingFile:  # noqa: ARG002 - the path names it
        """Open a file that is shown when it's closed."""
        return _LandingFile(self._folder / path)

    def confirm(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing: closed files are shown."""


class _LandingFile:
    """One file of a simulated stream."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_hidden(path)

    def write(self, line: Line, end: bytes, at_us: int) -> None:  # noqa: ARG002 - a file knows no time
        self._file.write(line.text + end)

    def close(self) -> None:
        self._file.close()
        show(self._path)


def land_lines(folder: Path, name: str, lines: Iterable[bytes]) -> Path:
    """Write one new file `<name>-<nn>.jsonl` with the next free number; it's on disk when this returns.

    Returns:
        The file's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{name}-{uuid.uuid4()}{HIDDEN_SUFFIX}"
    with hidden.open("wb") as file:
        for line in lines:
            file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    for number in itertools.count():
        path = folder / f"{name}-{number:02d}.jsonl"
        with contextlib.suppress(FileExistsError):
            os.link(hidden, path)  # unlike a rename, it never replaces
            break
    hidden.unlink()
    _fsync_folder(folder)
    return path


def open_hidden(path: Path) -> LineFile:
    """Open the hidden file that `show` will turn into `path`, compressed as its suffix says, the same bytes each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = _hidden(path).open("wb", buffering=1 << 18)
    if path.suffix == ".gz":
        return _Compressed(gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0), raw)
    if path.suffix == ".zst":
        return _Compressed(zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False), raw)
    return raw


def show(path: Path) -> None:
    """Give the closed hidden file its name.

    A file with that name and the same bytes is left as it is, so that a run that was stopped can be run again.

    Raises:
        FileExistsError: Another file has the name.
    """
    hidden = _hidden(path)
    try:
        os.link(hidden, path)
    except FileExistsError:
        if not filecmp.cmp(hidden, path, shallow=False):
            raise FileExistsError(f"{path} holds something else: choose an empty landing folder.") from None
    finally:
        hidden.unlink()


class _Compressed:
    """A compressor together with the file below it, which it doesn't close by itself."""

    def __init__(self, compressor: LineFile, raw: IO[bytes]) -> None:
        self._compressor = compressor
        self._raw = raw

    def write(self, data: bytes, /) -> object:
        return self._compressor.write(data)

    def close(self) -> None:
        self._compressor.close()
        self._raw.close()


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}{HIDDEN_SUFFIX}")


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
