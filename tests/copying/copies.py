"""Copying a project's stream, also to a disk that fails."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from event_archive.archive.history import iter_commits, log_versions
from event_archive.archive.snapshot import read_snapshot
from event_archive.copying import copy_stream
from event_archive.errors import StorageError
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from event_archive.copying import CopyResult
    from event_archive.storage.store import Store
    from tests.conftest import Project


def ingest_files(project: Project, count: int, *, first: int = 0) -> None:
    """One commit a file."""
    for number in range(first, first + count):
        project.write(f"{number}.jsonl", b"".join(b'{"n": %d}\n' % i for i in range(number + 1)))
        project.ingest()


def target_of(project: Project) -> FolderStore:
    """Where the copy of the stream's table goes."""
    return FolderStore(project.folder / "copy" / "events")


def copied(project: Project) -> CopyResult:
    """Copies the stream."""
    return copy_stream(project.store, target_of(project))


def tree(store: Store) -> dict[str, bytes]:
    """All that a place holds."""
    return {file.name: store.read(file.name) for file in store.files()}


def assert_whole(store: Store) -> None:
    """Every entry is proved, and every file that is part of the table is there and has the bytes that the log says."""
    list(iter_commits(store))
    for file in read_snapshot(store).files:
        assert hashlib.sha256(store.read(file.path)).hexdigest() == file.sha256, file.path


class Failing(FolderStore):
    """A folder whose disk fails at a chosen call that changes something."""

    def __init__(self, folder: Path, fail_at: int) -> None:
        """Fails at no call if `fail_at` is negative."""
        super().__init__(folder)
        self.calls: list[str] = []
        self.fail_at = fail_at

    def _count(self, call: str) -> None:
        if len(self.calls) == self.fail_at:
            raise StorageError("the disk is gone")
        self.calls.append(call)

    def put_new(self, name: str, content: bytes) -> bool:
        """Counted."""
        self._count(f"put {name}")
        return super().put_new(name, content)

    def restore(self, name: str, content: Iterable[bytes], *, sha256: str) -> None:
        """Counted."""
        self._count(f"restore {name}")
        super().restore(name, content, sha256=sha256)

    def delete(self, name: str) -> None:
        """Counted."""
        self._count(f"delete {name}")
        super().delete(name)


def sealed_project(project: Project) -> None:
    """Makes a table with two seals, entries that left the log folder, and entries after both."""
    ingest_files(project, 6)
    assert seal(project.store, at_least=3)
    ingest_files(project, 5, first=6)
    assert seal(project.store, at_least=3)
    ingest_files(project, 3, first=11)
    assert log_versions(project.store)[0] > 0


def copy_to(project: Project, start: dict[str, bytes], *, fail_at: int) -> Failing:
    """Copies to a place that holds something, whose disk fails at a call."""
    target = Failing(project.folder / f"copy{fail_at}" / "events", fail_at)
    for name, content in start.items():
        path = target.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if fail_at < 0:
        copy_stream(project.store, target)
    else:
        with pytest.raises(StorageError):
            copy_stream(project.store, target)
    return target
