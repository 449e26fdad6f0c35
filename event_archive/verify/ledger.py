"""What commits claim, held against what the commits before them claimed: files, offsets, counts, partitions.

What doesn't live here: what lies in the files (`rows`), and the hash chain (`walk`).
"""

from __future__ import annotations

import datetime as dt
import json
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np

from event_archive import layout
from event_archive.errors import ArchiveDamaged
from event_archive.sources.claims import Span, spans
from event_archive.verify.findings import Findings, ranges
from event_archive.verify.walk import UNREADABLE, affected_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.archive.log import Commit, DataFile
    from event_archive.archive.state import State
    from event_archive.verify.walk import Link, Lost

_EPOCH = dt.date(1970, 1, 1)
_DAY_US = 86_400_000_000


class Ledger:
    """Takes in commits in order; memory grows with the table's files and partitions, not with its commits."""

    def __init__(self, findings: Findings, lost: list[Lost]) -> None:
        """Begins with an empty table.

        Args:
            findings: takes what is wrong.
            lost: versions without a whole entry, which grows while the log is walked.
        """
        self._findings = findings
        self._lost = lost
        self.active: dict[str, DataFile] = {}
        """The data files that are part of the table, by path."""
        self.events = 0
        self.commits = 0
        self.version = -1
        self.entry_sha256: str | None = None
        self._versions = array("q")
        self._times_us = array("q")
        self._next_offset: dict[tuple[str, int], tuple[int, int]] = {}
        self._effects: dict[int, list[tuple[str, int, int]]] = {}
        self._counted: int | None = 0

    @property
    def is_complete(self) -> bool:
        """Whether no entry is lost."""
        return not self._lost

    def came_after(self, time_us: int) -> Callable[[int], bool]:
        """Whether a version came after a time, in microseconds since 1970, whatever a clock said that was set back since.

        From the first commit on that was made later, all did. So did those that are lost: they are read rather than left out.
        """
        times = np.frombuffer(self._times_us, np.int64)
        later = np.flatnonzero(times > time_us)
        first = self._versions[int(later[0])] if len(later) else self.version + 1

        def is_after(version: int) -> bool:
            place = bisect_left(self._versions, version)
            is_known = place < len(self._versions) and self._versions[place] == version
            return version >= first or not is_known

        return is_after

    def note(self, link: Link) -> bool:
        """Takes in the next commit.

        Returns:
            Whether it fits to those before, as far as files are concerned.
        """
        commit = link.commit
        if commit.version > self.version + 1:
            self._counted = None
        self._versions.append(commit.version)
        self._times_us.append(commit.ingested_at_us)
        self.version, self.entry_sha256 = commit.version, commit.entry_sha256
        self.commits += 1
        self.events += commit.events
        found = self._spans(commit)
        self._check_positions(commit, found)
        self._check_counts(commit, found)
        actions = [json.loads(line) for line in link.entry.splitlines()[1:]]
        self._check_transactions(commit, [action["txn"] for action in actions if "txn" in action])
        self._check_partitions(commit, [action["add"] for action in actions if "add" in action])
        return self._change_files(commit)

    def adopt(self, state: State) -> None:
        """Takes over from a state that a proved commit names which files there are, since entries before it are lost."""
        known = {file.path: file for file in state.files}
        for path in [p for p, file in self.active.items() if file.commit_version <= state.version]:
            if path not in known:
                del self.active[path]
        lost = [(lost.first, lost.last) for lost in self._lost]
        for path, file in known.items():
            if any(first <= file.commit_version <= last for first, last in lost):
                self.active[path] = file

    def tell_effects(self) -> None:
        """Says of lost entries which offsets they brought, as far as their neighbours tell."""
        for lost in self._lost:
            stretches = self._effects.get(lost.finding, [])
            before = self._findings.damages[lost.finding].affected
            told = ranges(stretches) or before
            rest = "the events of that commit" if lost.first == lost.last else "the events of those commits"
            self._findings.affect(lost.finding, f"{rest}, among them {told}" if told else rest)

    def _complain(self, commit: Commit, reason: str) -> None:
        self._findings.entry(commit.version, reason, affected_by(commit))

    def _spans(self, commit: Commit) -> list[Span]:
        try:
            return spans(commit.claims)
        except UNREADABLE as error:
            self._complain(commit, f"has positions that can't be read ({error})")
            return []

    def _check_positions(self, commit: Commit, found: list[Span]) -> None:
        """Each commit must go on where the ones before it ended; behind a lost entry that tells what it brought."""
        named: set[tuple[str, int]] = set()
        for span in found:
            key = (span.source_id, span.partition)
            if key in named:
                self._complain(commit, f"names {span.name} twice")
            named.add(key)
            at, since = self._next_offset.get(key, (span.gap_from if span.begins_anywhere else 0, -1))
            if span.gap_from != at:
                lost = [lost for lost in self._lost if lost.first > since]
                if lost and span.gap_from > at:
                    for one in lost:
                        self._effects.setdefault(one.finding, []).append((span.name, at, span.gap_from))
                else:
                    self._complain(
                        commit,
                        f"goes on at offset {span.gap_from} of {span.name}, but the commits before it end at {at}",
                    )
            if not _is_sound(span):
                self._complain(commit, f"claims stretches of {span.name} that overlap or lead outside")
            self._next_offset[key] = (span.next_offset, commit.version)

    def _check_counts(self, commit: Commit, found: list[Span]) -> None:
        claimed = sum(span.events for span in found)
        stored = 0 if commit.compacted else sum(file.num_records for file in commit.added)
        if not claimed == commit.events == stored:
            self._complain(
                commit,
                f"claims {claimed} events by position and {stored} by files, but counts {commit.events}",
            )
        if commit.digests and len(commit.digests) != sum(1 for span in found if span.events):
            self._complain(commit, f"has {len(commit.digests)} row digests for another number of stretches")
        if commit.row_groups and sum(commit.row_groups) != commit.events:
            self._complain(commit, "has row groups with another number of rows")

    def _check_transactions(self, commit: Commit, transactions: list[dict[str, Any]]) -> None:
        """Delta's `txn` versions are the number of events after the commit."""
        counted = None if self._counted is None else self._counted + commit.events
        for transaction in transactions:
            if counted is not None and transaction.get("version") != counted:
                self._complain(
                    commit,
                    f"has a txn version of {transaction.get('version')}, but there are {counted} events by then",
                )
            counted = transaction.get("version")
        self._counted = counted

    def _check_partitions(self, commit: Commit, adds: list[dict[str, Any]]) -> None:
        """Delta's readers take `ingest_date` from here, not from the file."""
        for add in adds:
            try:
                folder = layout.ingest_date_of(add["path"])
            except ArchiveDamaged:
                self._complain(commit, f"names the data file {add['path']!r}, which lies in no partition")
                continue
            day = (_EPOCH + dt.timedelta(days=commit.ingested_at_us // _DAY_US)).isoformat()
            if add.get("partitionValues") != {"ingest_date": folder}:
                self._complain(commit, f"says of {add['path']} that it lies in another partition")
            elif commit.compacted is None and folder != day:
                self._complain(commit, f"was made on {day}, but its file lies in the partition {folder}")

    def _change_files(self, commit: Commit) -> bool:
        fits = True
        for path in (*(file.path for file in commit.added), *commit.removed):
            try:
                layout.checked_data_file(path, self._findings.table.url)
            except ArchiveDamaged:
                self._complain(commit, f"leads outside the table: it names {path!r}")
                fits = False
        if commit.removed and commit.compacted is None:
            self._complain(commit, "removes files, though it is no compaction")
        if commit.compacted is None and len(commit.added) > 1:
            self._complain(commit, f"brings {len(commit.added)} files instead of one")
            fits = False
        for path in commit.removed:
            if self.active.pop(path, None) is None and self.is_complete:
                self._complain(commit, f"replaces {path}, which is not part of the table")
                fits = False
        for file in commit.added:
            if file.path in self.active:
                self._complain(commit, f"brings {file.path}, which is part of the table already")
                fits = False
            self.active[file.path] = file
        return fits


def _is_sound(span: Span) -> bool:
    """Whether the runs of a span lie one after the other between its ends."""
    if len(span.runs) == 1:  # nearly always
        first, events = (int(number) for number in span.runs[0])
        return span.gap_from <= span.first_offset <= first and 0 <= events <= span.next_offset - first
    starts, ends = span.runs[:, 0], span.runs.sum(axis=1)
    return bool(
        span.gap_from <= span.first_offset <= span.next_offset
        and (span.runs[:, 1] >= 0).all()
        and (starts >= span.first_offset).all()
        and (ends <= span.next_offset).all()
        and (starts[1:] >= ends[:-1]).all()
    )
