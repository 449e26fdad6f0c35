"""What an archive needs of the place where it lies.

Three promises carry everything else: a name is given once (`put_new`, `new_file` never replace), what has returned is
durable, and a name never shows half of its content (but for a file of `new_file`, which nothing refers to before it is finished).

What doesn't live here: the places themselves (`folder`, `s3`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a place."""

    name: str
    """Relative to the store, with `/` between folders."""
    size_bytes: int
    modified_at: dt.datetime


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file whose bytes were all read just now."""

    path: Path
    """On a local disk; gone after the block in which it was asked for, unless the store is a folder."""
    size_bytes: int
    sha256: str


class NewFile(ABC):
    """A new file that hashes what is written to it: the digest is of what was meant, not of what a disk gave back.

    It can stand in for a Python file in `pa.PythonFile`. Nothing may refer to it before `finish` has returned.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._is_discarded = False
        self.size_bytes = 0

    @property
    def closed(self) -> bool:
        """Whether pyarrow may not write any more: never, since a discarded file takes everything."""
        return False

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        """Appends `data`; after `discard` it goes nowhere."""
        if not self._is_discarded:
            self._digest.update(data)
            self._write(data)
            self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:  # noqa: B027 - for pyarrow
        """Does nothing: `finish` does."""

    def close(self) -> None:  # noqa: B027 - for pyarrow
        """Does nothing: that pyarrow is done with a file doesn't mean that it is whole."""

    def discard(self) -> None:
        """Gives the file up and removes it; never raises, and may be called twice."""
        self._is_discarded = True
        self._discard()

    @abstractmethod
    def finish(self) -> None:
        """Makes the file durable under its name.

        Raises:
            StorageError: the place refused; `discard` it then.
        """

    @abstractmethod
    def _write(self, data: bytes) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...


class Store(ABC):
    """A place that holds files by name. Names are relative, with `/`; none is ever taken from a user unchecked.

    All methods raise `StorageError` where the place refuses, and `FileMissing` where a file isn't there.
    """

    url: str
    """The place as a person would write it: a path, or `s3://bucket/prefix`."""
    is_far: bool = True
    """Whether files have to be fetched before a local reader can open them."""

    @property
    def name(self) -> str:
        """The last part of the place: of a table, the stream's name."""
        return self.url.rstrip("/").rpartition("/")[2]

    def place(self, name: str) -> str:
        """A file as a person would write it."""
        return f"{self.url.rstrip('/')}/{name}"

    @abstractmethod
    def child(self, name: str) -> Store:
        """The store of everything below a folder."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the files that lie directly in `folder`, without it, in any order; none if there is no such folder."""

    @abstractmethod
    def folders(self) -> list[str]:
        """Names of the folders directly in this place, in any order; none if the place doesn't exist."""

    @abstractmethod
    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """All files in and below `folder`, in order of name; their names are relative to the store."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a small file."""

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """The bytes of small files, in this order; places that are far away read several at once."""
        return map(self.read, names)

    @abstractmethod
    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, in pieces of a few megabytes at most."""

    @abstractmethod
    def hashed(
        self, name: str, *, on_bytes: Callable[[int], None] | None = None
    ) -> AbstractContextManager[HashedFile]:
        """Reads every byte of a file, now and from the place itself, and holds it on a local disk for the block.

        Args:
            name: the file.
            on_bytes: called with the number of bytes of each piece that was read.
        """

    @abstractmethod
    def local_path(self, name: str, *, size_bytes: int, sha256: str) -> Path:
        """A file of known content, for those who read paths; it is never changed.

        A folder gives the file itself, unproved. Other places give a copy that is kept, bounded in size, whose SHA-256 was
        compared.

        Raises:
            ArchiveDamaged: the place holds other bytes.
        """

    @abstractmethod
    def put_new(self, name: str, content: bytes) -> bool:
        """Creates a small file: durable before it is visible, whole or not at all, and never replacing anything.

        Of any number of writers of one name exactly one wins.

        Returns:
            False if the name was taken, and nothing has changed; True if it is now ours and durable.
        """

    @abstractmethod
    def new_file(self, name: str) -> NewFile:
        """Begins a large file under a name that nobody else uses; folders are made."""

    @abstractmethod
    def restore(self, name: str, content: Iterable[bytes], *, sha256: str) -> None:
        """Puts bytes under a name at once, durably, whatever was there before; only if their SHA-256 is the one given.

        For copies and repairs of what is known by its hash, and for pointers that may change.

        Raises:
            ArchiveDamaged: the bytes have another SHA-256; nothing has changed.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Removes a file; one that isn't there is as good as removed."""
