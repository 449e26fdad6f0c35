"""Copies of far files on a local disk: kept by their SHA-256, bounded in size, shared by any number of processes.

A copy is proved while it is downloaded. Afterwards its size and its time of modification tell whether somebody wrote to
it: that time is a number made from the hash, so any write changes it, and the copy is dropped and fetched again. What a
disk changes by itself isn't noticed, as it isn't in an archive on a local disk; `verify` never looks here.

A process holds a lease on what it was given, until it ends: a file under `leases` that it keeps locked, with a line per
copy. Whoever makes room leaves those copies alone; a lease that can be locked belongs to nobody any more.

What doesn't live here: where the files come from (`s3`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from event_archive.durable import storage_errors
from event_archive.errors import ArchiveDamaged, ConfigurationError, FileMissing, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

_COPY_NAME = re.compile(r"([0-9a-f]{64})\.parquet")
_LOCKED_NAME = re.compile(r"[0-9a-f]{16}\.(?:tmp|lease)")


class LocalCache:
    """A bounded folder of copies."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Names the folder and looks at nothing.

        Args:
            folder: where copies lie; made when needed, and may be removed while nothing runs.
            max_bytes: how large the copies may become together, those that are being downloaded included.
        """
        self.folder = folder
        self.max_bytes = max_bytes
        self._lease: int | None = None
        self._held: dict[str, int] = {}

    def get(
        self, sha256: str, size_bytes: int, fetch: Callable[[], Iterable[bytes]], *, place: str = ""
    ) -> Path:
        """Path of a file of known content; it stays there until this process ends.

        Args:
            sha256: of the file.
            size_bytes: of the file.
            fetch: gives its bytes; called only if there is no copy.
            place: where they come from, as a person would write it.

        Raises:
            ArchiveDamaged: other bytes came.
            ConfigurationError: what this process needs at once doesn't fit into the cache.
            StorageError: the disk refused, or other processes need the whole cache.
        """
        place = place or sha256
        path = self.folder / f"{sha256}.parquet"
        with _cache_errors(self.folder):
            with self._locked():
                if _is_whole(path, sha256, size_bytes):
                    self._hold(path, sha256, size_bytes)
                    return path
                self._make_room(sha256, size_bytes, place)
                pending, handle = _new_locked_file(self.folder, "tmp")
            try:
                os.ftruncate(handle, size_bytes)  # others count it as if it were whole
                _download(handle, fetch(), sha256, size_bytes, place)
                with self._locked():
                    if not _is_whole(path, sha256, size_bytes):  # another process may have been faster
                        pending.replace(path)
                    self._hold(path, sha256, size_bytes)
                    return path
            finally:
                pending.unlink(missing_ok=True)
                os.close(handle)

    @contextlib.contextmanager
    def scratch_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file for the block, beside the copies and not counted among them: its path, and it opened for writing."""
        folder = self.folder / "scratch"
        with _cache_errors(folder), self._locked():
            folder.mkdir(exist_ok=True)
            _remove_abandoned(folder)
            path, handle = _new_locked_file(folder, "tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                yield path, file
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the cache against other processes and threads, for moments only: never during a download."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _hold(self, path: Path, sha256: str, size_bytes: int) -> None:
        """Notes that this process uses a copy, now. Called under the lock."""
        if self._lease is None:
            folder = self.folder / "leases"
            folder.mkdir(exist_ok=True)
            _, self._lease = _new_locked_file(folder, "lease")
            weakref.finalize(self, os.close, self._lease)
        if sha256 not in self._held:
            os.write(self._lease, f"{sha256}\n".encode())
            self._held[sha256] = size_bytes
        os.utime(path, ns=(time.time_ns(), _proof_time_ns(sha256)))  # eviction goes by the time of access

    def _make_room(self, sha256: str, size_bytes: int, place: str) -> None:
        """Evicts what nobody uses, the longest unused first, until the file fits. Called under the lock."""
        held = sum(self._held.values()) - self._held.get(sha256, 0)
        if held + size_bytes > self.max_bytes:
            raise ConfigurationError(
                f"cache.max_bytes: {place} has {size_bytes:,} bytes, and this command uses {held:,} bytes of other copies in "
                f"{self.folder}, which may hold {self.max_bytes:,}. Allow at least {held + size_bytes:,}."
            )
        _remove_abandoned(self.folder)
        leased = self._leased()
        files = _files(self.folder)
        used = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda file: file[1].st_atime_ns):
            if used + size_bytes <= self.max_bytes:
                return
            copy = _COPY_NAME.fullmatch(path.name)
            if copy is not None and copy.group(1) not in leased:
                used -= stat.st_size
                path.unlink(missing_ok=True)
        if used + size_bytes > self.max_bytes:
            raise StorageError(
                f"{self.folder}: {used:,} of the {self.max_bytes:,} bytes that cache.max_bytes allows are in use, by other "
                f"processes too, and {place} has {size_bytes:,}. Wait for them, or allow more."
            )

    def _leased(self) -> set[str]:
        """What any process uses; leases of processes that ended are removed."""
        folder = self.folder / "leases"
        folder.mkdir(exist_ok=True)
        leased = set(self._held)
        for path in _remove_abandoned(folder):
            leased.update(path.read_text().split())
        return leased


def _is_whole(path: Path, sha256: str, size_bytes: int) -> bool:
    """Whether the copy is there, as it was when it was proved; one that isn't is dropped."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    if stat.st_size == size_bytes and stat.st_mtime_ns == _proof_time_ns(sha256):
        return True
    path.unlink()
    return False


def _download(handle: int, content: Iterable[bytes], sha256: str, size_bytes: int, place: str) -> None:
    """Writes and proves a copy."""
    digest, size = hashlib.sha256(), 0
    for chunk in content:
        size += len(chunk)
        if size > size_bytes:
            break
        digest.update(chunk)
        _write(handle, chunk)
    if size != size_bytes:
        raise ArchiveDamaged(f"{place}: has another size than the {size_bytes:,} bytes that the log names.")
    if digest.hexdigest() != sha256:
        raise ArchiveDamaged(f"{place}: its bytes have another SHA-256 than the log names.")
    os.fchmod(handle, 0o400)
    proof = _proof_time_ns(sha256)
    os.utime(handle, ns=(proof, proof))
    os.fsync(handle)  # a power cut must not leave a copy that only looks whole


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _new_locked_file(folder: Path, kind: str) -> tuple[Path, int]:
    """A new file that is locked for as long as its handle is open in any process. Called under the cache's lock."""
    path = folder / f"{secrets.token_hex(8)}.{kind}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return path, handle


def _remove_abandoned(folder: Path) -> list[Path]:
    """Removes files of processes that are gone; gives those that are still locked. Called under the cache's lock."""
    in_use = []
    for path, _ in _files(folder):
        if not _LOCKED_NAME.fullmatch(path.name):
            continue
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            in_use.append(path)
        else:
            path.unlink(missing_ok=True)
        finally:
            os.close(handle)
    return in_use


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Files that lie directly in a folder."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # a download that ended meanwhile
                if entry.is_file(follow_symlinks=False):
                    found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    return found


@contextlib.contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    """What the local disk refuses; a file that is missing here says nothing about the archive."""
    try:
        with storage_errors(folder):
            yield
    except FileMissing as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise StorageError(f"{folder}: was removed meanwhile. Run the command again.") from error


def _proof_time_ns(sha256: str) -> int:
    """The time of modification of a proved copy: some second of the years 1970 to 1978."""
    return int(sha256[:7], 16) * 1_000_000_000
