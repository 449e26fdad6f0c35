"""Repair: damaged or missing files of an archive put back byte for byte, from a copy of the archive or from the source.

What a file must be is told by the log alone, and what the log must be by its own chain of hashes. A file is put in its
place only if its bytes have the hash that is told; nothing else ever replaces a file, and what is whole isn't touched.
Data files come first, then the log, so that the archive is at no moment worse than before.

What doesn't live here: finding out what the log must be (`entries`), and making a data file again from its source
(`repair_source`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import iter_entries
from event_archive.archive.log import entry_fault
from event_archive.errors import ArchiveDamaged, EventArchiveError, FileMissing, UsageError
from event_archive.repair.entries import walk_log
from event_archive.repair.seals import wrong_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from event_archive.archive.log import DataFile
    from event_archive.heads.head import StreamHead
    from event_archive.repair.entries import LogFindings, WrongFile
    from event_archive.repair.source import SourceFiles
    from event_archive.storage.store import Store

_FILES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class RepairItem:
    """A file that is damaged or missing, and what became of it."""

    name: str
    fault: str
    outcome: str
    """`repaired`, `can be repaired` (nothing was changed since only a look was asked for), or `not repaired`."""
    remark: str
    """Where the bytes come from; or why there are none, and what is needed."""

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.name} {self.fault}: {self.outcome} ({self.remark.rstrip('.')})."


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair of one stream found and did."""

    stream: str
    version: int
    files: int
    """Data files that were read."""
    bytes_read: int
    items: tuple[RepairItem, ...]
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to be repaired."""
        return all(item.outcome == REPAIRED for item in self.items)


REPAIRED = "repaired"
REPAIRABLE = "can be repaired"
NOT_REPAIRED = "not repaired"


def repair_stream(
    table: Store,
    *,
    other: Store | None = None,
    source: SourceFiles | None = None,
    heads: Sequence[StreamHead] = (),
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> RepairReport:
    """Finds what is damaged or missing in a table, and puts back what can be had.

    Nothing else may write to the table meanwhile.

    Args:
        table: the table.
        other: a copy of it, as old or damaged as it may be.
        source: the source of its events.
        heads: heads that were recorded of it; without one the newest entry can only be told from its own remains.
        dry_run: only say what would be done.
        on_progress: called with the bytes of data files that were read, and how many there are.

    Raises:
        ArchiveDamaged: the log is another one than a head says; nothing was changed.
        UsageError: the heads are of another table.
        StorageError: a place refused; what was repaired until then stays.
    """
    return _Repair(table, other, source, dry_run=dry_run, on_progress=on_progress).run(heads)


class _Repair:
    def __init__(
        self,
        table: Store,
        other: Store | None,
        source: SourceFiles | None,
        *,
        dry_run: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._table = table
        self._other = other
        self._source = source
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._items: list[RepairItem] = []
        self._bytes_read = self._total = 0

    def run(self, heads: Sequence[StreamHead]) -> RepairReport:
        started = time.monotonic()
        refuse_foreign_heads(self._table, heads)
        found = walk_log(self._table, self._other, list(heads))
        if found.version < 0:
            raise UsageError(
                f"{self._table.url}: has no log at all, so nothing tells what was there: copy the other archive to this place "
                "(`event-archive copy`), or name a head (--head FILE)."
            )
        self._repair_files(found)
        entries = [wrong for wrong in found.wrong if wrong.name.startswith(f"{layout.LOG_FOLDER}/")]
        segments = [wrong for wrong in found.wrong if wrong not in entries]
        for wrong in [*segments, *sorted(entries, key=lambda wrong: wrong.name)]:
            self._put_known(wrong)
        is_log_whole = found.is_known and (not self._dry_run or not found.wrong)
        for wrong in wrong_ends(self._table, self._other, found.seals, is_log_whole=is_log_whole):
            self._put_known(wrong)
        for wrong in found.stray:
            self._put_known(wrong)
        return RepairReport(
            stream=self._table.name,
            version=found.version,
            files=len(found.files),
            bytes_read=self._bytes_read,
            items=tuple(self._items),
            seconds=time.monotonic() - started,
        )

    def _note(self, name: str, fault: str, outcome: str, remark: str) -> None:
        with self._lock:
            self._items.append(RepairItem(name, fault, outcome, remark))

    def _put_known(self, wrong: WrongFile) -> None:
        if wrong.content is None:
            self._note(wrong.name, wrong.fault, NOT_REPAIRED, wrong.found_in)
            return
        if self._dry_run:
            pass
        elif not wrong.is_entry_missing:
            self._table.restore(wrong.name, [wrong.content], sha256=wrong.sha256)
        elif not self._table.put_new(wrong.name, wrong.content):
            self._note(wrong.name, wrong.fault, NOT_REPAIRED, "another process has put one there meanwhile")
            return
        self._note(
            wrong.name,
            wrong.fault,
            REPAIRABLE if self._dry_run else REPAIRED,
            f"from {wrong.found_in}",
        )

    def _repair_files(self, found: LogFindings) -> None:
        self._total = sum(file.size_bytes for file in found.files)
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            faults = list(pool.map(self._fault, found.files))
        for file, fault in zip(found.files, faults, strict=True):
            if fault is not None:
                self._repair_file(file, fault)

    def _fault(self, file: DataFile) -> str | None:
        """What is wrong with a data file, None if its bytes are those of its commit."""
        name = layout.checked_data_file(file.path, self._table.url)
        try:
            with self._table.hashed(name, on_bytes=self._show) as hashed:
                if hashed.sha256 == file.sha256:
                    return None
                sizes = f": {hashed.size_bytes} bytes instead of {file.size_bytes}"
                return f"is damaged{sizes if hashed.size_bytes != file.size_bytes else ''}"
        except FileMissing:
            return "is missing"

    def _show(self, more: int) -> None:
        with self._lock:
            self._bytes_read += more
            if self._on_progress is not None:
                self._on_progress(self._bytes_read, max(self._bytes_read, self._total))

    def _repair_file(self, file: DataFile, fault: str) -> None:
        name = layout.checked_data_file(file.path, self._table.url)
        reasons = []
        if self._other is not None:
            reason = self._take_from_other(name, file, self._other)
            if reason is None:
                outcome = REPAIRABLE if self._dry_run else REPAIRED
                self._note(name, fault, outcome, f"from {self._other.url}")
                return
            reasons.append(reason)
        if self._source is not None:
            try:
                with self._source.rebuilt(file) as made:
                    if not self._dry_run:
                        self._table.restore(name, made, sha256=file.sha256)
            except EventArchiveError as error:
                reasons.append(str(error))
            else:
                outcome = REPAIRABLE if self._dry_run else REPAIRED
                self._note(name, fault, outcome, "from the source, where the same events were read again")
                return
        self._note(name, fault, NOT_REPAIRED, "; ".join(reasons))

    def _take_from_other(self, name: str, file: DataFile, other: Store) -> str | None:
        """Puts the other archive's file in its place; says why not if its bytes aren't the right ones."""
        try:
            if self._dry_run:
                with other.hashed(name) as hashed:
                    is_right = hashed.sha256 == file.sha256
            else:
                self._table.restore(name, other.chunks(name), sha256=file.sha256)
                is_right = True
        except FileMissing:
            return f"{other.url} doesn't have it"
        except ArchiveDamaged:
            is_right = False
        return None if is_right else f"{other.url} has other bytes under that name too"


def refuse_foreign_heads(table: Store, heads: Sequence[StreamHead]) -> None:
    """Refuses heads of another table: they would tell to replace everything.

    Raises:
        UsageError: one of them is.
    """
    try:
        version, entry = next(iter_entries(table), (-1, b""))
    except (ArchiveDamaged, FileMissing):
        return  # the first entry is lost: then the chain down to it will tell
    if version == 0 and entry_fault(entry) is None:
        for head in heads:
            if head.table_id not in (None, hashlib.sha256(entry).hexdigest()):
                raise UsageError(
                    f"{table.url}: the head is of another table, which began with {head.table_id}."
                )
