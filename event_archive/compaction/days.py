"""Compaction: the many small files of a day become few large ones, sorted, that hold the same events and prove it.

Days are dates of arrival (`ingest_date`) that are over. No event comes or goes: the commit of a compaction names the files that
leave the table and those that take their place, and the row digests that the original commits recorded go on proving every event. The files that were
replaced stay where they are, for readers that began before, until `clean` removes them.

What doesn't live here: merging (`archive.merging`).
"""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.commit import Head, Replacement, commit_replacement
from event_archive.archive.snapshot import read_snapshot
from event_archive.archive.span_table import commit_range
from event_archive.compaction.merging import Merged, merge_files, remove
from event_archive.errors import ArchiveDamaged, CommitConflict
from event_archive.sealing import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from event_archive.archive.log import DataFile
    from event_archive.config import Config
    from event_archive.storage.store import Store

TARGET_BYTES = 384 * 2**20
_AFTER_MIDNIGHT = dt.timedelta(hours=1)
_SEAL_AT_LEAST = 100
_ALWAYS_WORTH_BYTES = 8 * 2**20
_SMALL_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class CompactedFiles:
    """Files of one day that were replaced, by one commit."""

    ingest_date: str
    version: int
    """Of that commit."""
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    events: int


@dataclass(frozen=True, slots=True)
class CompactResult:
    """What one compaction of one stream did."""

    stream: str
    compacted: tuple[CompactedFiles, ...]
    files: int
    """Files that the table has now."""
    version: int
    """Version of the table now."""
    is_sealed: bool
    """Whether old log entries were sealed after it."""
    given_up: tuple[str, ...]
    """Dates whose files another compaction has replaced meanwhile."""
    problems: tuple[str, ...]
    """Sentences on files that are not as they must be; they were left alone."""
    seconds: float


def compact_stream(
    config: Config,
    stream: str,
    *,
    target_bytes: int = TARGET_BYTES,
    until: dt.date | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CompactResult:
    """Merges the small files of each day that is over, and seals old log entries.

    Safe beside ingests, readers and other compactions, and at any moment to be interrupted: what is left then is at most a file that no commit
    refers to. A second call finds nothing to do.

    Args:
        config: the configuration.
        stream: name of a configured stream.
        target_bytes: how large files should become, about; those that have half of it are left alone.
        until: the last date to take; by default the last one that ended more than an hour ago (UTC).
        on_progress: called with bytes done and bytes to do.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the log can't be read.
        StorageError: the place refused; what was committed until then stays.
    """
    config.stream(stream)
    table = config.table(stream)
    compaction = _Compaction(table, config.cache.path / "scratch", target_bytes, on_progress)
    started = time.monotonic()
    compaction.run(until or _last_closed_date(dt.datetime.now(dt.UTC)))
    is_sealed = compaction.version >= 0 and seal(table, at_least=_SEAL_AT_LEAST) is not None
    snapshot = read_snapshot(table)
    return CompactResult(
        stream=stream,
        compacted=tuple(compaction.compacted),
        files=len(snapshot.files),
        version=snapshot.version,
        is_sealed=is_sealed,
        given_up=tuple(sorted(compaction.given_up)),
        problems=tuple(compaction.problems),
        seconds=time.monotonic() - started,
    )


def _last_closed_date(now: dt.datetime) -> dt.date:
    return (now - _AFTER_MIDNIGHT).date() - dt.timedelta(days=1)


def small_groups(files: Iterable[DataFile], *, target_bytes: int, until: dt.date) -> list[list[DataFile]]:
    """Files to be merged with each other, those of a day that is over by then, in the order of their commits.

    Files that have half of the target are left alone, and so is one that would be rewritten for the sake of a little.
    """
    by_date = defaultdict(list)
    for file in files:
        date = layout.ingest_date_of(file.path)
        if dt.date.fromisoformat(date) <= until and 2 * file.size_bytes < target_bytes:
            by_date[date].append(file)
    groups: list[list[DataFile]] = []
    for _, small in sorted(by_date.items()):
        worth = sorted(small, key=lambda file: file.size_bytes)
        while len(worth) > 1 and not _pays(worth):
            worth.pop()
        groups += _evenly(sorted(worth, key=commit_range), target_bytes)
    return [group for group in groups if len(group) > 1]


def _pays(files: Sequence[DataFile]) -> bool:
    """Whether the largest, which comes last, is small enough to be written again for the sake of the others."""
    largest = files[-1].size_bytes
    return largest <= max(_ALWAYS_WORTH_BYTES, _SMALL_SHARE * sum(file.size_bytes for file in files))


def _evenly(files: Sequence[DataFile], target_bytes: int) -> list[list[DataFile]]:
    """Neighbours in groups of about equal size, as few as give files of not more than four thirds of the target."""
    total = sum(file.size_bytes for file in files)
    count = max(-(-3 * total // (4 * target_bytes)), 1)
    groups: list[list[DataFile]] = [[]]
    done = 0
    for file in files:
        if done * count >= total * len(groups):
            groups.append([])
        groups[-1].append(file)
        done += file.size_bytes
    return groups


class _Compaction:
    def __init__(
        self,
        table: Store,
        scratch: Path,
        target_bytes: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._table = table
        self._scratch = scratch
        self._target_bytes = target_bytes
        self._on_progress = on_progress
        self._done = self._total = 0
        self.version = -1
        self.compacted: list[CompactedFiles] = []
        self.given_up: set[str] = set()
        self.problems: list[str] = []

    def run(self, until: dt.date) -> None:
        """Merges until there is nothing more to merge: what was merged may turn out small enough to be merged again."""
        left_alone: set[str] = set()
        while True:
            snapshot = read_snapshot(self._table)
            self.version = snapshot.version
            files = [file for file in snapshot.files if file.path not in left_alone]
            groups = small_groups(files, target_bytes=self._target_bytes, until=until)
            if not groups:
                return
            self._total += 2 * sum(file.size_bytes for group in groups for file in group)
            for group in groups:
                merged = self._merge(group)
                if merged is None:
                    left_alone.update(file.path for file in group)
                elif len(merged.files) >= len(group):
                    left_alone.update(file.path for file in merged.files)

    def _merge(self, group: list[DataFile]) -> Merged | None:
        """Replaces files by what they come to; None if that can't be done."""
        date = layout.ingest_date_of(group[0].path)
        try:
            merged = merge_files(
                self._table,
                group,
                limit_bytes=4 * self._target_bytes // 3,
                scratch=self._scratch,
                on_bytes=self._show,
            )
        except ArchiveDamaged as error:
            self.problems.append(f"{date}: {error}")
            return None
        head = self._commit(Replacement(tuple(group), merged.files))
        if head is None:
            self.given_up.add(date)
            return None
        self.version = head.version
        self.compacted.append(
            CompactedFiles(
                ingest_date=date,
                version=head.version,
                files_before=len(group),
                files_after=len(merged.files),
                bytes_before=sum(file.size_bytes for file in group),
                bytes_after=sum(file.size_bytes for file in merged.files),
                events=merged.events,
            )
        )
        return merged

    def _commit(self, replacement: Replacement) -> Head | None:
        """Commits on whatever head there is, as long as all that is to be replaced is still part of the table."""
        while True:
            try:
                snapshot = read_snapshot(self._table)
                active = {(file.path, file.sha256) for file in snapshot.files}
                is_void = any((file.path, file.sha256) not in active for file in replacement.inputs)
            except BaseException:
                remove(self._table, replacement.outputs)
                raise
            if is_void:
                remove(self._table, replacement.outputs)
                return None
            try:
                # From here on the new files may be part of the table, whatever goes wrong: only a lost race proves that they aren't.
                return commit_replacement(
                    self._table, Head(snapshot.version, snapshot.chain_hash), replacement
                )
            except CommitConflict:
                continue

    def _show(self, done: int) -> None:
        self._done += done
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
