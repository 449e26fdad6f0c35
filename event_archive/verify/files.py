"""Proving data files, several at once: each byte is read once and hashed, and what it holds is compared with the log.

What doesn't live here: what a file must hold (`plan`), comparing rows (`rows`).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.errors import ArchiveDamaged, EventArchiveError, FileMissing
from event_archive.storage.folder import FolderStore
from event_archive.verify.rows import RowsProof, prove_rows
from event_archive.verify.walk import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from event_archive.storage.store import Store
    from event_archive.verify.plan import FileTask

_NEAR_THREADS = 8
_FAR_THREADS = 8
_AHEAD = 2
_PATIENCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class FileProof:
    """What came of one file."""

    task: FileTask
    fault: str
    """Empty if it is what it must be."""
    affected: str = ""
    digests_compared: int = 0
    digests_missing: int = 0


class FileProver:
    """Reads and proves files with a few threads; each needs the memory of one row group."""

    def __init__(self, table: Store, *, deep: bool, files: int, threads: int | None = None) -> None:
        """Looks at nothing yet.

        Args:
            table: the table.
            deep: decode all columns, and compute the row digests anew.
            files: how many there will be.
            threads: how many files are read at once; by default as many as the machine has processors.
        """
        is_near = isinstance(table, FolderStore)
        self._threads = threads or (min(os.cpu_count() or 1, _NEAR_THREADS) if is_near else _FAR_THREADS)
        self._table = table
        self._deep = deep
        self._is_sparse = files < self._threads
        self._lock = threading.Lock()
        self.bytes_read = 0

    def prove(self, tasks: Iterator[FileTask], on_bytes: Callable[[int], None]) -> Iterator[FileProof]:
        """The proofs of files, in their order.

        Args:
            tasks: the files.
            on_bytes: called now and then with the number of bytes that were read so far.
        """
        running: deque[Future[FileProof]] = deque()
        pool = ThreadPoolExecutor(self._threads)
        try:
            for task in tasks:
                running.append(pool.submit(self._prove, task))
                if len(running) >= _AHEAD * self._threads:
                    yield self._next(running.popleft(), on_bytes)
            while running:
                yield self._next(running.popleft(), on_bytes)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _next(self, future: Future[FileProof], on_bytes: Callable[[int], None]) -> FileProof:
        while True:
            on_bytes(self.bytes_read)
            try:
                return future.result(_PATIENCE_SECONDS)
            except TimeoutError:
                continue

    def _prove(self, task: FileTask) -> FileProof:
        """Hashes first: Parquet readers may end the whole process over bytes that nobody wrote."""
        file = task.file
        try:
            name = layout.checked_data_file(file.path, self._table.url)
        except ArchiveDamaged:
            return FileProof(task, "lies outside the table and was not read")
        try:
            with self._table.hashed(name, on_bytes=self._count) as hashed:
                if hashed.size_bytes != file.size_bytes:
                    return FileProof(task, f"has {hashed.size_bytes} bytes instead of {file.size_bytes}")
                if hashed.sha256 != file.sha256:
                    return FileProof(task, "is damaged: it does not match its SHA-256")
                rows = prove_rows(hashed.path, task, deep=self._deep, use_threads=self._is_sparse)
        except FileMissing:
            return FileProof(task, "is missing")
        except EventArchiveError as error:
            return FileProof(task, f"can't be read ({error_text(error)})")
        return _whole_proof(task, rows)

    def _count(self, read: int) -> None:
        with self._lock:
            self.bytes_read += read


def _whole_proof(task: FileTask, rows: RowsProof) -> FileProof:
    return FileProof(task, rows.fault, rows.affected, rows.digests_compared, rows.digests_missing)
