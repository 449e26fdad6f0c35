"""An archive in a folder of a local disk.

What doesn't live here: how files survive a power cut (`event_archive.durable`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from event_archive.durable import make_folder, publish_new, storage_errors, sync
from event_archive.errors import ArchiveDamaged
from event_archive.storage.store import HashedFile, NewFile, Store, StoredFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK_BYTES = 1 << 20
_READ_ONLY = 0o444


class FolderStore(Store):
    """A folder; it need not exist before something is written."""

    is_far = False

    def __init__(self, folder: Path, *, read_only_files: bool = False) -> None:
        """Names the folder and looks at nothing.

        Args:
            folder: where the files lie.
            read_only_files: take the right to write from each file that is finished.
        """
        self.folder = folder
        self.url = str(folder)
        self._read_only_files = read_only_files

    def child(self, name: str) -> FolderStore:
        """See `Store`."""
        return FolderStore(self.folder / name, read_only_files=self._read_only_files)

    def path(self, name: str) -> Path:
        """Path of a file."""
        return self.folder / name

    def names(self, folder: str) -> list[str]:
        """See `Store`."""
        path = self.path(folder)
        with storage_errors(path):
            if not os.path.lexists(path):
                return []
            with os.scandir(path) as entries:
                return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]

    def folders(self) -> list[str]:
        """See `Store`."""
        with storage_errors(self.folder):
            if not self.folder.is_dir():
                return []
            with os.scandir(self.folder) as entries:
                return [entry.name for entry in entries if entry.is_dir()]

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """See `Store`."""
        top = self.path(folder)
        with storage_errors(top):
            found = []
            for parent, _, names in os.walk(top):
                for name in names:
                    path = Path(parent, name)
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        stat = path.lstat()
                        modified = dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC)
                        found.append(
                            StoredFile(path.relative_to(self.folder).as_posix(), stat.st_size, modified)
                        )
        yield from sorted(found, key=lambda file: file.name)

    def size(self, name: str) -> int:
        """See `Store`."""
        with storage_errors(self.path(name)):
            return self.path(name).stat().st_size

    def read(self, name: str) -> bytes:
        """See `Store`."""
        with storage_errors(self.path(name)):
            return self.path(name).read_bytes()

    def chunks(self, name: str) -> Iterator[bytes]:
        """See `Store`."""
        with storage_errors(self.path(name)), self.path(name).open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    @contextlib.contextmanager
    def hashed(self, name: str, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[HashedFile]:
        """See `Store`."""
        digest, size = hashlib.sha256(), 0
        for chunk in self.chunks(name):
            digest.update(chunk)
            size += len(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))
        yield HashedFile(self.path(name), size, digest.hexdigest())

    def local_path(self, name: str, *, size_bytes: int, sha256: str) -> Path:  # noqa: ARG002 - the file itself
        """See `Store`."""
        return self.path(name).absolute()

    def put_new(self, name: str, content: bytes) -> bool:
        """See `Store`."""
        path = self.path(name)
        with storage_errors(path):
            make_folder(path.parent)
            mode = _READ_ONLY if self._read_only_files else None
            return publish_new(path.parent, path.name, _pending_name(), content, mode=mode)

    def new_file(self, name: str) -> NewFile:
        """See `Store`."""
        path = self.path(name)
        with storage_errors(path):
            make_folder(path.parent)
            return _NewFile(path, read_only=self._read_only_files)

    def restore(self, name: str, content: Iterable[bytes], *, sha256: str) -> None:
        """See `Store`."""
        path = self.path(name)
        with storage_errors(path):
            make_folder(path.parent)
            pending = path.with_name(_pending_name())
            try:
                digest = hashlib.sha256()
                with pending.open("xb") as file:
                    for chunk in content:
                        digest.update(chunk)
                        file.write(chunk)
                    file.flush()
                    if digest.hexdigest() != sha256:
                        raise ArchiveDamaged(
                            f"{path}: the bytes that should go there have another SHA-256; nothing was changed."
                        )
                    if self._read_only_files:
                        os.fchmod(file.fileno(), _READ_ONLY)
                    os.fsync(file.fileno())
                pending.replace(path)
            finally:
                pending.unlink(missing_ok=True)
            sync(path.parent)

    def delete(self, name: str) -> None:
        """See `Store`."""
        with storage_errors(self.path(name)):
            self.path(name).unlink(missing_ok=True)


class _NewFile(NewFile):
    def __init__(self, path: Path, *, read_only: bool) -> None:
        super().__init__()
        self._path = path
        self._read_only = read_only
        self._file = path.open("xb")

    def finish(self) -> None:
        with storage_errors(self._path):
            self._file.flush()
            if self._read_only:
                os.fchmod(self._file.fileno(), _READ_ONLY)
            os.fsync(self._file.fileno())
            self._file.close()
            sync(self._path.parent)

    def _write(self, data: bytes) -> None:
        with storage_errors(self._path):
            self._file.write(data)

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # flushes, which a full disk refuses once more
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _pending_name() -> str:
    """Name of a file that is being written; readers of Delta tables ignore it."""
    return f"_commit_{uuid.uuid4().hex}.json.tmp"
