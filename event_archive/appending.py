"""What one ingest of one stream does to its table, whatever the source: the commit being put together, and the tally.

A commit that another writer was faster with is void: its file is dropped and `CommitConflict` is raised; whoever drives
the ingest opens the log again, which gives new positions, and reads from there.

What doesn't live here: how sources are read (`sources`), how an entry is made durable (`archive.commit`).
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive import layout
from event_archive.archive.commit import Batch, Head, commit, create_table
from event_archive.archive.data_file import DataFileWriter, with_commit
from event_archive.archive.history import refuse_lost_log
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import ArchiveDamaged, CommitConflict, FileMissing, StorageError
from event_archive.sealing import SEAL_COMMITS, seal

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    import pyarrow as pa

    from event_archive.archive.log import Commit
    from event_archive.config import StreamConfig
    from event_archive.storage.store import Store

ROW_GROUP_ROWS = 2**17
ROW_GROUP_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be archived as it should be; everything else went on."""

    stream: str
    source: str
    """A file as a person would type it, or a topic and partition."""
    reason: str

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.stream}: {self.source} {self.reason}."


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one ingest of one stream did."""

    stream: str
    events: int
    bytes: int
    """Bytes of values."""
    commits: int
    seconds: float
    version: int
    """Version of the table after it."""
    chain_hash: str | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Progress:
    """How far an ingest is, for those who watch."""

    stream: str
    total_bytes: int | None = None
    """Size on the disk of the files that have to be read."""
    total_events: int | None = None
    """About how many events were waiting at the start, where the source can tell."""
    events: int = 0
    bytes: int = 0
    commits: int = 0


@dataclass(frozen=True, slots=True)
class Follow:
    """That an ingest doesn't end when it has read everything, but waits for more."""

    stop: threading.Event
    """Set from outside to end it, after a last commit."""
    max_latency_seconds: float = 60.0
    """An event that was read is committed after so long at the latest."""


@dataclass(slots=True)
class _OpenCommit:
    writer: DataFileWriter | None = None
    ingested_at: dt.datetime | None = None
    value_bytes: int = 0


class Appender:
    """Appends to one table, commit by commit."""

    def __init__(
        self,
        stream: str,
        settings: StreamConfig,
        table: Store,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self.stream = stream
        self.settings = settings
        self.events = self.value_bytes = self.commits = 0
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._told: set[Problem] = set()
        self._table = table
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._head = Head(-1, None)
        self._archived_events = 0
        self._sealed_until = -1
        self._open = _OpenCommit()
        self._started = time.monotonic()

    def open(self, note: Callable[[Commit], None]) -> None:
        """Reads the log and tells `note` of the positions on which the next commit is based; creates a missing table.

        Args:
            note: takes in each commit, in order.

        Raises:
            ArchiveDamaged: the archive must be repaired first.
            CommitConflict: another writer creates the table at this moment; call again.
        """
        self.problems = []
        snapshot = read_snapshot(self._table, on_commit=note)
        self._head = Head(snapshot.version, snapshot.chain_hash)
        self._archived_events = snapshot.events
        self._sealed_until = snapshot.state.version if snapshot.state else -1
        if self._head.version < 0:
            refuse_lost_log(self._table)
            self._head = create_table(self._table, description=self.settings.description)

    @property
    def pending_events(self) -> int:
        """Events written for the next commit."""
        return self._open.writer.num_records if self._open.writer else 0

    @property
    def pending_bytes(self) -> int:
        """Their bytes, as given to `write_rows`."""
        return self._open.value_bytes

    def write_rows(self, rows: pa.Table, value_bytes: int) -> None:
        """Writes a row group for the next commit.

        Args:
            rows: with `SOURCE_SCHEMA`, in order of source, partition and offset, after those of the calls before.
            value_bytes: bytes of their values.
        """
        if not rows.num_rows:
            return
        pending = self._open
        if pending.writer is None or pending.ingested_at is None:
            pending.ingested_at = dt.datetime.now(dt.UTC)
            name = layout.data_file_name(pending.ingested_at.date(), self._head.version + 1, uuid.uuid4().hex)
            pending.writer = DataFileWriter(self._table, name)
        pending.value_bytes += value_bytes
        try:
            pending.writer.write_row_group(with_commit(rows, self._head.version + 1, pending.ingested_at))
        except BaseException:
            self.abandon()  # a half-written file would keep a full disk full
            raise

    def commit(self, claims: dict[str, list[Any]], *, application: str) -> None:
        """Commits the rows written so far together with what is claimed of the sources.

        Args:
            claims: positions after the commit, as columns.
            application: Delta's `txn` id for this source; its version is the number of events archived.

        Raises:
            CommitConflict: another writer was faster; nothing of this was committed, `open` again.
            StorageError: the disk refused.
        """
        pending, self._open = self._open, _OpenCommit()
        writer = pending.writer
        try:
            file = writer.finish() if writer else None
        except BaseException:
            if writer:
                writer.abandon()
            raise
        events = file.num_records if file else 0
        transactions = {application: self._archived_events + events}
        batch = Batch(file, pending.value_bytes, claims, transactions)
        # From here on the file may be part of the table, whatever goes wrong: only a lost race proves that it isn't.
        try:
            self._head = commit(
                self._table, self._head, batch, ingested_at=pending.ingested_at or dt.datetime.now(dt.UTC)
            )
        except CommitConflict:
            if writer:
                writer.abandon()
            raise
        if file is not None:
            self._refuse_lost_file(file.path)
        self._archived_events += events
        self.commits += 1
        self.events += events
        self.value_bytes += pending.value_bytes
        if self._head.version - self._sealed_until > SEAL_COMMITS:
            self._seal()

    def _refuse_lost_file(self, path: str) -> None:
        """A writer that stood still for a day, or a clock a day ahead elsewhere, may have let `clean` take the file for a leftover."""
        try:
            self._table.size(path)
        except FileMissing as error:
            raise ArchiveDamaged(
                f"{self._table.place(path)}: was removed before its commit was made. Run `event-archive repair {self.stream} "
                "--from-source`, and look at the clocks of the machines that run `clean`."
            ) from error

    def _seal(self) -> None:
        """Keeps the log folder small; that it can't be done now is no reason to stop."""
        try:
            head = seal(self._table)
        except (ArchiveDamaged, StorageError) as error:
            self.warn(f"{self.stream}: old log entries could not be sealed ({error})")
            head = None
        self._sealed_until = self._head.version  # and not tried again at each commit
        # Only if nothing came in between: positions that another writer has moved on must be read again.
        if head is not None and head.version == self._head.version + 1:
            self._head = head

    def abandon(self) -> None:
        """Drops what was written and not committed."""
        pending, self._open = self._open, _OpenCommit()
        if pending.writer is not None:
            pending.writer.abandon()

    def note_problem(self, source: str, reason: str) -> None:
        """Records something that could not be archived as it should be; those who watch hear of it at once, and once."""
        problem = Problem(self.stream, source, reason)
        self.problems.append(problem)
        if self._on_warning is not None and problem not in self._told:
            self._told.add(problem)
            self._on_warning(str(problem))

    def warn(self, text: str) -> None:
        """Records something worth a word."""
        if text not in self.warnings:
            self.warnings.append(text)
            if self._on_warning is not None:
                self._on_warning(text)

    def show(self, progress: Progress) -> None:
        """Tells those who watch."""
        if self._on_progress is not None:
            self._on_progress(progress)

    def result(self) -> IngestResult:
        """What was done until now."""
        return IngestResult(
            stream=self.stream,
            events=self.events,
            bytes=self.value_bytes,
            commits=self.commits,
            seconds=time.monotonic() - self._started,
            version=self._head.version,
            chain_hash=self._head.entry_sha256,
            problems=tuple(self.problems),
            warnings=tuple(self.warnings),
        )
