"""The bytes of one file beyond its position, after proof that what was archived before is still the same.

What doesn't live here: which files there are (`landing`), and lines as columns (`lines`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from event_archive.errors import SourceProblem
from event_archive.sources.files.decompression import Damaged, decompressed
from event_archive.sources.files.lines import first_longer_line
from event_archive.sources.files.positions import ACCEPTED_DAMAGE, DAMAGED, OPEN_LINE, FileState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.sources.files.landing import LandingFile

NOT_YET = -1
"""In place of a size or a time: look at the file again next time, whatever it looks like then."""


class Changed(SourceProblem):
    """The file is not any more what was archived of it."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How the files of one stream are read."""

    settle_seconds: float
    max_record_bytes: int
    block_bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole lines of a file."""

    path: str
    data: bytes
    """Lines, each with its line end (one is added to a last line that has none)."""
    state: FileState
    """State of the file after these lines, but for `records`, which is still that of before."""
    is_last: bool


def read_file(file: LandingFile, state: FileState, settings: ReadSettings) -> Iterator[Piece]:
    """Yields the lines of `file` beyond `state`; the last piece may be empty and says what the file looks like.

    Raises:
        SourceProblem: the file can't be read, isn't what was archived before, or has a line over the limit; all lines
            before such a line have been yielded.
    """
    try:
        # Not to be fooled by a link or a pipe that took the file's place since it was listed.
        handle = os.open(file.opened_as, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        reason = "has become a link" if error.errno == errno.ELOOP else f"can't be read ({error.strerror})"
        raise SourceProblem(reason) from error
    with os.fdopen(handle, "rb") as opened:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise SourceProblem("is not a file any more; it was not read")
        try:
            yield from _Reading(file.path, state, settings, opened, info).pieces()
        except OSError as error:
            raise SourceProblem(f"can't be read ({error.strerror})") from error


def is_unchanged(file: LandingFile, state: FileState) -> bool:
    """Whether a file looks as it did when `state` was recorded, so that it needn't be opened."""
    return (
        state.size_bytes == file.size_bytes
        and state.mtime_ns == file.mtime_ns
        and state.ctime_ns == file.ctime_ns
    )


def is_still(mtime_ns: int, settle_seconds: float) -> bool:
    """Whether a file has not been written to for so long."""
    return time.time() - mtime_ns / 1e9 >= settle_seconds


class _Reading:
    def __init__(
        self, path: str, state: FileState, settings: ReadSettings, opened: BinaryIO, info: os.stat_result
    ) -> None:
        self._path = path
        self._before = state
        self._settings = settings
        self._info = info
        self._hash = hashlib.sha256()
        self._position = 0
        self._is_plain = not path.endswith((".gz", ".zst"))
        self._chunks = _regrouped(decompressed(opened, path, settings.block_bytes), settings.block_bytes)
        self._opened = opened
        self._opened_at = time.time()
        self._pushed_back = b""
        self._open_line: list[bytes] = []

    def pieces(self) -> Iterator[Piece]:
        try:
            self._pass_archived_part()
            yield from self._new_lines()
        except Damaged as damage:
            if self._position < self._before.position_bytes:
                raise Changed(f"{damage}, which is before what was archived of it; {_ACCEPT}") from damage
            accepted = self._before.left.removeprefix(ACCEPTED_DAMAGE) == f": {damage}"
            yield self._piece(b"", left=f"{ACCEPTED_DAMAGE if accepted else DAMAGED}: {damage}", is_last=True)
            return
        yield from self._last_line()

    def _pass_archived_part(self) -> None:
        """Reads on to the position, and proves that the file is the same up to there."""
        before = self._before
        if self._is_plain and self._info.st_size < before.position_bytes:
            raise self._shorter(self._info.st_size)
        while self._position < before.position_bytes:
            chunk = self._next_chunk()
            if not chunk:
                raise self._shorter(self._position)
            self._take(chunk[: before.position_bytes - self._position], rest=chunk)
        if self._hash.hexdigest() != before.sha256:
            raise Changed(
                f"has changed before byte {before.position_bytes}, up to which it was archived; {_ACCEPT}"
            )
        if not before.terminated:
            chunk = self._next_chunk()
            if chunk[:1] not in (b"", b"\n"):
                raise Changed(
                    f"has changed: its last line was archived without a line end at byte {before.position_bytes}, "
                    f"and has gone on since; {_ACCEPT}"
                )
            self._take(chunk[:1], rest=chunk)

    def _take(self, data: bytes, *, rest: bytes) -> None:
        self._hash.update(data)
        self._position += len(data)
        self._pushed_back = rest[len(data) :]

    def _next_chunk(self) -> bytes:
        chunk, self._pushed_back = self._pushed_back or next(self._chunks, b""), b""
        return chunk

    def _shorter(self, size_bytes: int) -> Changed:
        return Changed(
            f"is shorter ({size_bytes} bytes) than what was archived of it ({self._before.position_bytes} bytes); {_ACCEPT}"
        )

    def _new_lines(self) -> Iterator[Piece]:
        limit = self._settings.max_record_bytes
        while chunk := self._next_chunk():
            end = chunk.rfind(b"\n") + 1
            if end:
                data = b"".join([*self._open_line, chunk[:end]]) if self._open_line else chunk[:end]
                self._open_line.clear()
                if len(data) > limit and (start := first_longer_line(data, limit)) is not None:
                    if start:
                        yield self._piece(data[:start])
                    raise self._too_long()
                yield self._piece(data)
            if end < len(chunk):
                self._open_line.append(chunk[end:])
                if sum(map(len, self._open_line)) > limit:
                    raise self._too_long()

    def _last_line(self) -> Iterator[Piece]:
        rest = b"".join(self._open_line)
        now = os.fstat(self._opened.fileno())
        # Reading takes its time: what is written meanwhile may be the first half of a line.
        was_left_alone = (now.st_size, now.st_mtime_ns) == (self._info.st_size, self._info.st_mtime_ns)
        if rest and was_left_alone and is_still(now.st_mtime_ns, self._settings.settle_seconds):
            yield self._piece(rest, terminated=False, is_last=True)
        else:
            yield self._piece(b"", left=OPEN_LINE if rest else "", is_last=True)

    def _too_long(self) -> SourceProblem:
        return SourceProblem(
            f"has a line of more than {self._settings.max_record_bytes} bytes at byte {self._position}; "
            "raise `max_record_bytes` of the stream to archive it and what follows"
        )

    def _piece(self, data: bytes, *, left: str = "", terminated: bool = True, is_last: bool = False) -> Piece:
        self._hash.update(data)
        self._position += len(data)
        before = self._before
        if not data and self._position == before.position_bytes:
            terminated = before.terminated
        state = replace(
            before,
            position_bytes=self._position,
            sha256=self._hash.hexdigest(),
            terminated=terminated,
            size_bytes=self._info.st_size if is_last else NOT_YET,
            mtime_ns=_trusted_mtime(self._info, self._opened_at) if is_last else NOT_YET,
            ctime_ns=self._info.st_ctime_ns,
            left=left,
        )
        return Piece(self._path, data if terminated or not data else data + b"\n", state, is_last)


def _trusted_mtime(info: os.stat_result, opened_at: float) -> int:
    """The modification time, unless another write within the clock's tick could go unseen behind it.

    (The problem that git calls "racily clean": github.com/git/git, Documentation/technical/racy-git.txt.)
    """
    tick_seconds = 2 if info.st_mtime_ns % 10**9 == 0 else 0.05
    return NOT_YET if opened_at - info.st_mtime_ns / 1e9 < tick_seconds else info.st_mtime_ns


def _regrouped(chunks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in chunks of about `size_bytes`; what comes before an error is yielded before it."""
    held: list[bytes] = []
    held_bytes = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            held_bytes += len(chunk)
            if held_bytes >= size_bytes:
                whole = held[0] if len(held) == 1 else b"".join(held)
                held, held_bytes = [], 0
                for start in range(0, len(whole), size_bytes):  # dense input may expand to much at once
                    yield whole[start : start + size_bytes] if len(whole) > size_bytes else whole
    except Damaged:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


_ACCEPT = "if that is right, `event-archive sources accept FILE` archives it as a new generation"
