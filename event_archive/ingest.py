"""Ingest: read what a source has beyond the archive's positions, commit it, and say what could not be read.

Positions are folded from the very snapshot on which the next commit is built. A commit that another writer was faster
with is void: its file is dropped, the positions are read again, and reading starts over from there.

What doesn't live here: how files are read (`sources.files`), how a commit is made (`archive.commit`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive.archive.commit import Batch, Head, commit, create_table
from event_archive.archive.data_file import DataFileWriter
from event_archive.archive.log import refuse_lost_log
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import CommitConflict
from event_archive.sources.files.batches import BatchBuilder, Block, damage_reason, plan, read_blocks
from event_archive.sources.files.landing import scan
from event_archive.sources.files.positions import FileState, Positions, encode_claims
from event_archive.sources.files.reading import ReadSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from event_archive.config import Config, StreamConfig

ROW_GROUP_ROWS = 2**17
_ROW_GROUP_BYTES = 2**26
_BLOCK_BYTES = 2**23
_FILES_A_COMMIT = 20_000
_BLANK_LINES_A_COMMIT = 2**22
_TRANSACTION = "event-archive:file:0"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be archived as it should be; everything else went on."""

    stream: str
    source: str
    """Path of the file, as a person would type it."""
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
    total_bytes: int
    """Size on the disk of the files that have to be read."""
    events: int = 0
    bytes: int = 0
    commits: int = 0


def ingest_stream(
    config: Config,
    stream: str,
    *,
    settled: bool = False,
    only: frozenset[str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestResult:
    """Archives everything that the source of `stream` has now.

    Args:
        config: the configuration.
        stream: name of a configured stream.
        settled: take last lines without a line end at once, whatever their age.
        only: paths, relative to the landing folder, to be read; None for all.
        on_progress: called after each block that was read.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the archive must be repaired first.
        StorageError: the disk refused; what was committed until then stays, and running again goes on from there.
    """
    run = _Run(config, stream, settled=settled, only=only, on_progress=on_progress)
    started = time.monotonic()
    while True:
        try:
            run.once()
            break
        except CommitConflict:
            run.conflicts += 1
            run.warnings.append(
                f"{stream}: another ingest of this stream committed first; what this one had read for that commit was "
                "dropped, and it went on from the new positions."
            )
    return IngestResult(
        stream=stream,
        events=run.events,
        bytes=run.value_bytes,
        commits=run.commits,
        seconds=time.monotonic() - started,
        version=run.head.version,
        chain_hash=run.head.entry_sha256,
        problems=tuple(run.problems),
        warnings=tuple(dict.fromkeys(run.warnings)),
    )


def read_settings(stream: StreamConfig, *, settled: bool) -> ReadSettings:
    """How the files of a stream are read; `settled` takes last lines without a line end at once."""
    return ReadSettings(
        settle_seconds=float("-inf") if settled else stream.source.settle_seconds,
        max_record_bytes=stream.source.max_record_bytes,
        block_bytes=max(4096, min(_BLOCK_BYTES, stream.commit_bytes)),
    )


@dataclass(slots=True)
class _OpenCommit:
    """A commit that is being put together."""

    writer: DataFileWriter | None = None
    ingested_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    value_bytes: int = 0


class _Run:
    def __init__(
        self,
        config: Config,
        stream: str,
        *,
        settled: bool,
        only: frozenset[str] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.stream = stream
        self.settings: StreamConfig = config.stream(stream)
        self.table: Path = config.table(stream)
        self.landing: Path = self.settings.source.path
        self.only = only
        self.on_progress = on_progress
        self.read_settings = read_settings(self.settings, settled=settled)
        self.head = Head(-1, None)
        self.events = self.value_bytes = self.commits = self.conflicts = 0
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def once(self) -> None:
        """Reads and commits until nothing is left.

        Raises:
            CommitConflict: another writer was faster; call again.
        """
        self.problems = []
        positions = Positions()
        snapshot = read_snapshot(self.table, on_commit=positions.note)
        self.head = Head(snapshot.version, snapshot.chain_hash)
        if self.head.version < 0:
            refuse_lost_log(self.table)
            self.head = create_table(self.table, description=self.settings.description)
        files, unreadable = scan(self.landing)
        if self.only is not None:
            files = [file for file in files if file.path in self.only]
            unreadable = [file for file in unreadable if file.path in self.only]
        work, known = plan(files, positions, self.read_settings)
        for path, reason in [(u.path, u.reason) for u in unreadable] + [(k.path, k.reason) for k in known]:
            self._note_problem(path, reason)
        if work:
            progress = Progress(self.stream, sum(item.file.size_bytes for item in work))
            with _read_ahead(read_blocks(work, self.read_settings)) as blocks:
                self._commit_all(blocks, positions, progress)

    def _commit_all(self, blocks: Iterator[Block], positions: Positions, progress: Progress) -> None:
        builder = BatchBuilder(positions)
        twins = _Twins(positions)
        pending = _OpenCommit()
        try:
            for block in blocks:
                self._take(block, builder, twins)
                if builder.pending_rows >= ROW_GROUP_ROWS or builder.pending_bytes >= _ROW_GROUP_BYTES:
                    self._write_rows(builder, pending)
                progress.events = (
                    self.events + (pending.writer.num_records if pending.writer else 0) + builder.pending_rows
                )
                progress.bytes += block.size_bytes
                if (
                    pending.value_bytes + builder.pending_bytes >= self.settings.commit_bytes
                    or builder.claimed_files >= _FILES_A_COMMIT
                    or builder.pending_blank_lines >= _BLANK_LINES_A_COMMIT
                ):
                    self._commit(builder, pending, positions)
                    pending = _OpenCommit()
                progress.commits = self.commits
                if self.on_progress is not None:
                    self.on_progress(progress)
            if builder.claimed_files:
                self._commit(builder, pending, positions)
        except BaseException:
            if pending.writer is not None:
                pending.writer.abandon()
            raise

    def _take(self, block: Block, builder: BatchBuilder, twins: _Twins) -> None:
        for problem in block.problems:
            self._note_problem(problem.path, problem.reason)
        for finished in builder.add(block):
            if finished.state.is_damaged:
                self._note_problem(finished.path, damage_reason(finished.state))
            if finished.is_new and finished.state.records:
                self.warnings += twins.warn(self.stream, finished.state)

    def _write_rows(self, builder: BatchBuilder, pending: _OpenCommit) -> None:
        if not builder.pending_rows:
            return
        if pending.writer is None:
            pending.writer = DataFileWriter(self.table, self.head.version + 1, pending.ingested_at)
        pending.value_bytes += builder.pending_bytes
        pending.writer.write_row_group(builder.take_rows())

    def _commit(self, builder: BatchBuilder, pending: _OpenCommit, positions: Positions) -> None:
        self._write_rows(builder, pending)
        writer = pending.writer
        file = writer.finish() if writer else None
        claims = encode_claims(builder.take_claims())
        events = file.num_records if file else 0
        positions.total_records += events
        batch = Batch(file, pending.value_bytes, claims, {_TRANSACTION: positions.total_records})
        # From here on the file may be part of the table, whatever goes wrong: only a lost race proves that it isn't.
        pending.writer = None
        try:
            self.head = commit(self.table, self.head, batch, ingested_at=pending.ingested_at)
        except CommitConflict:
            if writer:
                writer.abandon()
            raise
        self.commits += 1
        self.events += events
        self.value_bytes += pending.value_bytes

    def _note_problem(self, path: str, reason: str) -> None:
        self.problems.append(Problem(self.stream, str(self.landing / path), reason))


class _Twins:
    """Files with the same bytes: archived, since an archive never drops, but worth a word."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._by_digest: dict[str, str] | None = None

    def warn(self, stream: str, state: FileState) -> list[str]:
        """Warnings about a new file that has the bytes of another."""
        if self._by_digest is None:
            known = self._positions.by_path.values()
            self._by_digest = {other.sha256: other.source_id for other in known if other.records}
        twin = self._by_digest.setdefault(state.sha256, state.source_id)
        if twin == state.source_id:
            return []
        return [f"{stream}: {state.source_id} has the same bytes as {twin}; both are archived."]


@contextlib.contextmanager
def _read_ahead(blocks: Iterator[Block]) -> Iterator[Iterator[Block]]:
    """Runs `blocks` in a thread, a block or two ahead of who takes them."""
    ahead: queue.Queue[Block | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Block | BaseException | None) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ahead.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            if all(put(block) for block in blocks):
                put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that takes the blocks
            put(error)

    def take() -> Iterator[Block]:
        while (item := ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()
