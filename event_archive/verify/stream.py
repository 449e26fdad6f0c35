"""Proving a stream's table: its log, what the log's seals name, and its data files, in this order.

What doesn't live here: each of these (`walk`, `ledger`, `seals`, `plan`, `files`).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import newest_version
from event_archive.verify.cut_off import check_cut_off
from event_archive.verify.files import FileProver
from event_archive.verify.findings import Findings, VerifyReport
from event_archive.verify.journal import Journal
from event_archive.verify.ledger import Ledger
from event_archive.verify.plan import FilePlan
from event_archive.verify.scope import Scope, chosen_files
from event_archive.verify.seals import SealCheck
from event_archive.verify.walk import UNREADABLE, LogWalk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from event_archive.config import Config
    from event_archive.storage.store import Store, StoredFile
    from event_archive.verify.files import FileProof
    from event_archive.verify.plan import FileTask

_EVERYTHING = Scope()
_READ_BY_OTHERS = re.compile(
    rf"{layout.LOG_FOLDER}/([0-9]{{20}}\.(crc|[0-9]{{20}}\.compacted\.json|checkpoint\..+\.(parquet|json))|_sidecars/.+)"
)
"""Other kinds of checkpoints, checksums and merged entries of Delta (PROTOCOL.md), which its readers take in place of entries."""


def verify_stream(
    config: Config,
    stream: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    scope: Scope = _EVERYTHING,
    resume: bool = False,
    threads: int | None = None,
) -> VerifyReport:
    """Reads every byte of the table of `stream` and checks it against the log, and the log against itself.

    Args:
        config: the configuration.
        stream: name of a configured stream.
        on_progress: called with bytes read and bytes to read, of data files.
        scope: which data files are read, and how closely.
        resume: go on where a proof of the same table was interrupted.
        threads: how many files are read at once.

    Raises:
        UsageError: there is no such stream.
        StorageError: the place can't be listed.
    """
    config.stream(stream)
    journal = config.cache.path / "verify" / f"{stream}.json"
    return _Proof(config.table(stream), stream, scope, journal).run(
        on_progress=on_progress or (lambda _done, _total: None), resume=resume, threads=threads
    )


def verify_table(table: Store, *, scope: Scope = _EVERYTHING, threads: int | None = None) -> VerifyReport:
    """The same for a table anywhere, without a configuration."""
    return _Proof(table, table.name, scope, None).run(
        on_progress=lambda _done, _total: None, resume=False, threads=threads
    )


@dataclass(slots=True)
class _Proved:
    """What came of the data files, damages apart."""

    read: int = 0
    proved_before: int = 0
    bytes_before: int = 0
    digests_compared: int = 0
    digests_missing: int = 0
    replaced: set[str] = field(default_factory=set)

    def note(self, proof: FileProof) -> None:
        self.read += 1
        self.digests_compared += proof.digests_compared
        self.digests_missing += proof.digests_missing


class _Proof:
    def __init__(self, table: Store, stream: str, scope: Scope, journal: Path | None) -> None:
        self._table = table
        self._stream = stream
        self._scope = scope
        self._journal_path = journal
        self._findings = Findings(table)
        self._walk = LogWalk(table, self._findings)
        self._ledger = Ledger(self._findings, self._walk.lost)
        self._seals = SealCheck(table, self._findings, self._walk, self._ledger)
        self._table_id = ""
        self._cut_off = -1
        """Up to which version segments tell of entries that were cut off."""

    def run(
        self, *, on_progress: Callable[[int, int], None], resume: bool, threads: int | None
    ) -> VerifyReport:
        started = time.monotonic()
        self._prove_log()
        active = self._ledger.active
        wanted, seed = chosen_files(active, self._ledger.came_after, self._scope)
        found, left_over = self._list_files(wanted)
        came_of = self._prove_files(wanted, found, left_over, on_progress, resume=resume, threads=threads)
        replaced = sorted(came_of.replaced)
        unreferenced = sorted(left_over - came_of.replaced - self._seals.named_by_newer())
        self._check_end(unreferenced)
        told_of = self._tell_of_lost(unreferenced)
        if not self._ledger.is_complete or self._cut_off >= 0:
            unreferenced = []  # a lost entry may speak of them
        place = self._table.place
        return VerifyReport(
            stream=self._stream,
            version=self._ledger.version,
            chain_hash=self._ledger.entry_sha256,
            commits=self._ledger.commits,
            files=len(active),
            events=self._ledger.events,
            bytes_read=self._findings.bytes_read,
            damages=self._findings.without(told_of),
            unreferenced=tuple(place(name) for name in unreferenced),
            replaced=tuple(place(name) for name in replaced),
            notes=tuple(self._findings.notes),
            scope=self._scope.in_words(seed),
            files_read=came_of.read,
            files_proved_before=came_of.proved_before,
            seed=seed,
            digests_compared=came_of.digests_compared,
            digests_missing=came_of.digests_missing,
            seconds=time.monotonic() - started,
        )

    def _prove_log(self) -> None:
        for link in self._walk.links():
            if link.commit.version == 0:
                self._table_id = link.commit.entry_sha256
            fits = False
            try:
                fits = self._ledger.note(link)
            except UNREADABLE as error:
                self._findings.entry(
                    link.commit.version, f"holds what can't be understood ({type(error).__name__}: {error})"
                )
            self._seals.note(link, fits=fits)
        self._seals.finish()
        self._cut_off = check_cut_off(self._table, self._findings)

    def _prove_files(
        self,
        wanted: set[str],
        found: dict[str, StoredFile],
        left_over: set[str],
        on_progress: Callable[[int, int], None],
        *,
        resume: bool,
        threads: int | None,
    ) -> _Proved:
        active = self._ledger.active
        total = sum(active[path].size_bytes for path in wanted)
        plan = FilePlan(self._table, self._findings, until=self._ledger.version, active=active)
        prover = FileProver(self._table, deep=self._scope.is_deep, files=len(wanted), threads=threads)
        journal = self._journal(resume=resume)
        came_of = _Proved()
        unmatched = set(left_over)

        def tasks() -> Iterator[FileTask]:
            for task in plan.tasks(wanted, unmatched):
                if journal is not None and journal.has(task, found.get(task.file.path)):
                    came_of.proved_before += 1
                    came_of.bytes_before += task.file.size_bytes
                else:
                    yield task

        is_ended = False
        try:
            for proof in prover.prove(tasks(), lambda done: on_progress(done + came_of.bytes_before, total)):
                came_of.note(proof)
                if proof.fault:
                    self._findings.add(
                        proof.task.file.path, proof.fault, proof.affected or proof.task.affected
                    )
                elif journal is not None:
                    journal.note(proof.task, found.get(proof.task.file.path))
            is_ended = True
        finally:
            if journal is not None:
                journal.remove() if is_ended else journal.save()
        self._findings.bytes_read += prover.bytes_read
        came_of.replaced = left_over - unmatched
        return came_of

    def _journal(self, *, resume: bool) -> Journal | None:
        if self._journal_path is None or self._scope.is_quick:
            return None
        return Journal(
            self._journal_path,
            table=self._table.url,
            table_id=self._table_id,
            is_deep=self._scope.is_deep,
            resume=resume,
        )

    def _list_files(self, wanted: set[str]) -> tuple[dict[str, StoredFile], set[str]]:
        """Lists the table: the files that will be read, and those that the table doesn't need.

        Files that won't be read must be there, with their size.
        """
        active = self._ledger.active
        found: dict[str, StoredFile] = {}
        unseen = active.keys() - wanted
        left_over: set[str] = set()
        for stored in self._table.files():
            file = active.get(stored.name)
            if file is None:
                if not self._is_of_log(stored.name):
                    left_over.add(stored.name)
            elif stored.name in wanted:
                found[stored.name] = stored
            else:
                unseen.discard(stored.name)
                if stored.size_bytes != file.size_bytes:
                    self._findings.add(
                        stored.name,
                        f"has {stored.size_bytes} bytes instead of {file.size_bytes}",
                        "its events",
                    )
        for path in sorted(unseen):
            self._findings.add(path, "is missing", "its events")
        return found, left_over

    def _is_of_log(self, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        if _READ_BY_OTHERS.fullmatch(name):
            self._findings.add(
                name,
                "is none of our files, and Delta's readers may believe it",
                "no event",
                kind="checkpoint",
            )
            return True
        if folder == layout.LOG_FOLDER:
            is_entry = layout.entry_version(last) is not None
            return is_entry or name == layout.LAST_CHECKPOINT or layout.checkpoint_version(last) is not None
        return name in self._seals.named

    def _check_end(self, unreferenced: list[str]) -> None:
        """An interrupted write leaves a file for the next version at most; one for a later version tells of a cut log."""
        versions = {
            name: version for name in unreferenced if (version := layout.data_file_version(name)) is not None
        }
        newest = self._ledger.version
        if max(versions.values(), default=-1) > newest + 1:
            newest = max(newest, newest_version(self._table))  # an ingest may go on meanwhile
        for name, version in versions.items():
            if version > max(newest, self._cut_off) + 1 or (newest < 0 and self._cut_off < 0):
                self._findings.add(
                    name,
                    f"was written for commit {version}, but the log ends at {newest}: its newest entries were cut off",
                    "the events of those commits",
                )

    def _tell_of_lost(self, unreferenced: list[str]) -> set[int]:
        """Says what lost entries affect; gives the numbers of damages that others tell of."""
        self._ledger.tell_effects()
        told_of: set[int] = set()
        files: dict[int, str] = {}
        for name in unreferenced:
            if (version := layout.data_file_version(name)) is not None:
                files[version] = name
        for lost in self._walk.lost:
            affected = self._findings.damages[lost.finding].affected
            named = [
                files[version]
                for version in range(lost.first, min(lost.last, lost.first + 2) + 1)
                if version in files
            ]
            if named:
                affected += f", in {' and '.join(named)}"
            self._findings.affect(lost.finding, affected)
            for first, last, number in self._seals.damaged_ranges:
                if lost.is_missing and first <= lost.first and lost.last <= last:
                    self._findings.affect(number, affected)
                    told_of.add(lost.finding)
        for _, _, number in self._seals.damaged_ranges:
            if not self._findings.damages[number].affected:
                self._findings.affect(number, "no event: its entries are whole elsewhere")
        return told_of
