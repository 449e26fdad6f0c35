"""What commits of the operation SEAL name: segments, states, checkpoints, and the pointer to the newest checkpoint.

States are compared with the log folded anew. Others may seal meanwhile: then what an older seal named may be gone, and nothing is said to be
wrong before the commits after the proved ones were asked. What doesn't live here: walking the log (`walk`), what a checkpoint must hold
(`checkpoints`), making seals (`event_archive.sealing`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import newest_version
from event_archive.archive.state import State, decode_state, encode_state, state_names
from event_archive.errors import ArchiveDamaged, EventArchiveError, FileMissing
from event_archive.sealing import Fold, pointer_to
from event_archive.verify.checkpoints import Expected, checkpoint_fault
from event_archive.verify.newer import NewerSeals
from event_archive.verify.walk import UNREADABLE, error_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.archive.log import Commit, Sealed, SegmentFact
    from event_archive.storage.store import Store
    from event_archive.verify.findings import Findings, Kind
    from event_archive.verify.ledger import Ledger
    from event_archive.verify.walk import Link, LogWalk

_NO_EVENT = "no event: it follows from the log"
_TOMBSTONE_MS = 30 * 86_400_000
_MANY_REMOVED = 100_000
_PATIENCE = 20
"""How often we look again while others seal."""


class SealCheck:
    """Checks seals while the log is walked."""

    def __init__(self, table: Store, findings: Findings, walk: LogWalk, ledger: Ledger) -> None:
        """Looks at nothing yet.

        Args:
            table: the table.
            findings: takes what is wrong.
            walk: that over the log, which sees the segments.
            ledger: knows the active files.
        """
        self._table = table
        self._findings = findings
        self._walk = walk
        self._ledger = ledger
        self._is_listed = False
        self._states: set[str] = set()
        self._checkpoints: set[int] = set()
        self._has_pointer = False
        self._wanted: set[int] = set()
        self._fold: Fold | None = Fold(None)
        self._removed = 0
        self._newest_us = 0
        self._expected: dict[int, Expected] = {}
        self._segments: list[SegmentFact] = []
        self._seals: list[Sealed] = []
        self._newer = NewerSeals(table, ledger)
        self._pointers: set[bytes] = set()
        self.named: set[str] = set()
        """Files that a SEAL commit names."""
        self.damaged_ranges: list[tuple[int, int, int]] = []
        """First and last version of each segment that is lost or damaged, and the number of its damage."""

    def _list(self) -> None:
        """Lists what there is: later than the log, so that what a commit in it names is there, or is no longer needed."""
        if self._is_listed:
            return
        self._is_listed = True
        states = state_names(self._table)
        self._states = {name for _, name in states}
        names = self._table.names(layout.LOG_FOLDER)
        self._checkpoints = {v for name in names if (v := layout.checkpoint_version(name)) is not None}
        self._has_pointer = layout.LAST_CHECKPOINT.rpartition("/")[2] in names
        self._wanted = {*(version for version, _ in states), *self._checkpoints}

    def note(self, link: Link, *, fits: bool) -> None:
        """Takes in the next commit; `fits` tells whether it fits to those before."""
        self._list()
        commit = link.commit
        if commit.sealed is not None:
            self._check(commit, commit.sealed)
        if not fits or not self._ledger.is_complete:
            self._fold = None
        self._newest_us = max(self._newest_us, commit.ingested_at_us)
        if self._fold is not None and (self._wanted or self._has_pointer):
            try:
                self._fold.note(commit, link.entry)
                self._removed += len(commit.removed)
            except UNREADABLE:  # a finding of the ledger already
                self._fold = None
        if commit.version in self._wanted:
            self._expected[commit.version] = self._expect(commit.version)

    def _expect(self, version: int) -> Expected:
        state = None
        if self._fold is not None and self._fold.version == version:
            try:
                state = self._fold.state([])
            except KeyError:  # the first entry made no table
                self._fold = None
        if state is not None:
            state = replace(state, transactions=dict(state.transactions))
        return Expected(state, dict(self._ledger.active))

    def _check(self, commit: Commit, sealed: Sealed) -> None:
        version = layout.state_version(sealed.state.rpartition("/")[2])
        before = _last_of(self._segments)
        for segment in sealed.segments:
            # Some may be sealed twice: then the copies of their entries are compared.
            if not segment.first <= min(before + 1, segment.last) and self._ledger.is_complete:
                self._findings.entry(
                    commit.version,
                    f"names a segment of entries from {segment.first} on, but those up to {before} were sealed before",
                    _NO_EVENT,
                )
            before = max(before, segment.last)
            self._check_segment(segment)
        self._segments += sealed.segments
        if (
            version != before
            or version >= commit.version
            or layout.checkpoint_name(version) != sealed.checkpoint
        ):
            self._findings.entry(
                commit.version, "names a state or checkpoint of another version than its segments", _NO_EVENT
            )
            return
        self._seals.append(sealed)
        self.named |= {sealed.state, sealed.checkpoint}
        expected = self._expected.get(version)
        state = expected.state if expected else None
        if state is not None:
            state = replace(state, segments=tuple(self._segments))
        kept = self._check_state(sealed, state)
        if kept is not None and not self._ledger.is_complete:
            self._ledger.adopt(kept)
        size = self._check_checkpoint(sealed, expected)
        self._pointers |= {pointer_to(some, size) for some in (kept, state) if some is not None and size}
        if self._removed > _MANY_REMOVED and self._fold is not None and self._fold.version == version:
            # As sealing itself does: what was removed long ago is forgotten.
            self._fold = Fold(replace(self._fold.state([]), segments=tuple(self._segments)))
            self._removed = 0

    def _check_segment(self, fact: SegmentFact) -> None:
        self.named.add(fact.name)
        seen = self._walk.segments.get(fact.name)
        if seen is None:
            reason = "is missing"
        elif not seen.sha256 and seen.fault:
            reason = seen.fault
        elif seen.sha256 != fact.sha256:
            reason = "is damaged: it does not match its SHA-256"
        elif (seen.first, seen.last) != (fact.first, fact.last):
            reason = "is named for other versions than it was sealed with"
        elif seen.fault:
            reason = seen.fault
        else:
            return
        number = self._findings.add(fact.name, reason, kind="segment")
        self.damaged_ranges.append((fact.first, fact.last, number))

    def _check_state(self, sealed: Sealed, expected: State | None) -> State | None:
        """Compares a state that is kept; gives it if it is right."""
        if sealed.state not in self._states:
            return None
        try:
            content = self._table.read(sealed.state)
        except EventArchiveError as error:
            if not self._has_gone(sealed.state, error):
                self._findings.add(
                    sealed.state, f"can't be read ({error_text(error)})", _NO_EVENT, kind="state"
                )
            return None
        self._findings.bytes_read += len(content)
        fault = ""
        kept: State | None = None
        if hashlib.sha256(content).hexdigest() != sealed.state_sha256:
            fault = "is damaged: it does not match its SHA-256"
        else:
            try:
                kept = decode_state(content)
            except ArchiveDamaged as error:
                fault = f"is no state: {error_text(error)}"
            else:
                if expected is not None and (name := self._difference(kept, expected)):
                    fault = f"says other {name} than the log up to {expected.version} adds up to"
        if fault:
            self._findings.add(sealed.state, fault, _NO_EVENT, kind="state")
            return None
        return kept

    def _difference(self, kept: State, expected: State) -> str:
        """The first thing in which a state differs from what the log adds up to; empty if it is the same."""
        expected = decode_state(encode_state(expected))
        for name in (
            "version",
            "entry_sha256",
            "events",
            "value_bytes",
            "ingested_at_us",
            "files",
            "abridged",
        ):
            if getattr(kept, name) != getattr(expected, name):
                return name
        for name in ("segments", "transactions", "protocol", "metadata"):
            if getattr(kept, name) != getattr(expected, name):
                return name
        # Sealing forgets old ones by the clock of its time, which may have been set back since.
        left_out = set(expected.removed) - set(kept.removed)
        oldest_ms = self._newest_us // 1000 - _TOMBSTONE_MS
        if set(kept.removed) - set(expected.removed) or any(f.removed_at_ms >= oldest_ms for f in left_out):
            return "removed files"
        return ""

    def _check_checkpoint(self, sealed: Sealed, expected: Expected | None) -> int:
        """Compares a checkpoint that is kept; gives its size, 0 if it isn't right."""
        version = layout.checkpoint_version(sealed.checkpoint.rpartition("/")[2])
        if version not in self._checkpoints:
            return 0
        content = self._read_checkpoint(sealed.checkpoint)
        if content is None:
            return 0
        if hashlib.sha256(content).hexdigest() != sealed.checkpoint_sha256:
            fault = "is damaged: it does not match its SHA-256"
        else:
            fault = checkpoint_fault(content, expected if expected and expected.state else None)
        if fault:
            self._findings.add(sealed.checkpoint, fault, _NO_EVENT, kind="checkpoint")
            return 0
        return len(content)

    def _read_checkpoint(self, name: str) -> bytes | None:
        try:
            content = self._table.read(name)
        except EventArchiveError as error:
            if not self._has_gone(name, error):
                self._findings.add(name, f"can't be read ({error_text(error)})", _NO_EVENT, kind="checkpoint")
            return None
        self._findings.bytes_read += len(content)
        return content

    def _has_gone(self, name: str, error: EventArchiveError) -> bool:
        """Whether a file was removed since it was listed; whether it may, is said at the end of the log."""
        folder, _, last = name.rpartition("/")
        return isinstance(error, FileMissing) and last not in self._table.names(folder)

    def finish(self) -> None:
        """Checks what can be told at the end of the log: the newest seal, entries that have left, the pointer, what no seal names."""
        self._list()
        self._check_newest_is_kept()
        if not self._ledger.is_complete:
            return  # a lost entry may be the one that names them
        self._check_left()
        for name, seen in self._walk.segments.items():
            if name not in self.named and seen.fault:
                # A crash leaves whole ones. Readers of the history go by names, and would take this one.
                self._findings.add(name, f"belongs to no seal, and {seen.fault}", _NO_EVENT, kind="segment")
        others = self._check_unnamed_checkpoints()
        self._check_pointer(others)

    def named_by_newer(self) -> set[str]:
        """Files that seals after the proved part of the log name."""
        return {
            name
            for seal in self._newer.seals()
            for name in (seal.state, seal.checkpoint, *(segment.name for segment in seal.segments))
        }

    def _check_newest_is_kept(self) -> None:
        """The newest seal's state and checkpoint must be there: newer seals only remove those of older ones."""
        missing: list[tuple[str, Kind]] = []
        for _ in range(_PATIENCE):
            seals = [*self._seals, *self._newer.seals()]
            if not seals:
                return
            newest = seals[-1]
            wanted: tuple[tuple[str, Kind], ...] = (
                (newest.state, "state"),
                (newest.checkpoint, "checkpoint"),
            )
            missing = [
                (name, kind)
                for name, kind in wanted
                if name.rpartition("/")[2] not in self._table.names(name.rpartition("/")[0])
            ]
            if not missing or [*self._seals, *self._newer.seals()][-1] == newest:
                break
        for name, kind in missing:
            self._findings.add(name, "is missing", _NO_EVENT, kind=kind)

    def _check_left(self) -> None:
        """Only entries that an earlier seal than the newest has sealed may leave the log folder."""
        if not self._walk.left:
            return
        seals = [*self._seals, *self._newer.seals()]
        may_leave = max((_last_of(seal.segments) for seal in seals[:-1]), default=-1)
        for left in self._walk.left:
            if left.last <= may_leave:
                continue
            first = max(left.first, may_leave + 1)
            others = f", and so are all up to {left.last}" if left.last > first else ""
            self._findings.entry(
                first,
                f"is missing in the log folder, where Delta's readers need it{others}",
                f"no event: {left.segment} has it whole",
            )

    def _check_unnamed_checkpoints(self) -> set[int]:
        """Checkpoints that no SEAL names, which Delta's readers use all the same; gives the versions of those that are right."""
        right = set()
        for version in sorted(self._checkpoints):
            name = layout.checkpoint_name(version)
            if name in self.named:
                continue
            expected = self._expected.get(version)
            if expected is None:
                if not self._ledger.version < version <= newest_version(self._table):
                    self._findings.add(
                        name,
                        "is a checkpoint of a commit that isn't in the log",
                        _NO_EVENT,
                        kind="checkpoint",
                    )
            elif (content := self._read_checkpoint(name)) is not None:
                if fault := checkpoint_fault(content, expected):
                    self._findings.add(
                        name, f"was not made by a seal, and {fault}", _NO_EVENT, kind="checkpoint"
                    )
                else:
                    right.add(version)
                    if name not in self.named_by_newer():
                        self._findings.note(
                            f"{self._table.place(name)} was not made by a seal: it says the same as the log."
                        )
        return right

    def _check_pointer(self, others: set[int]) -> None:
        if not self._has_pointer:
            if self._seals:
                place = self._table.place(layout.LAST_CHECKPOINT)
                self._findings.note(
                    f"{place} is missing: Delta's readers list the folder instead, and the next seal makes it again."
                )
            return
        content, reason = b"", ""
        for _ in range(_PATIENCE):
            before = content
            try:
                content = self._table.read(layout.LAST_CHECKPOINT)
            except EventArchiveError as error:
                reason = f"can't be read ({error_text(error)})"
                break
            if content in self._pointers or _version_in(content) in others:
                self._findings.bytes_read += len(content)
                return
            if content in self._newer.pointers():
                return
            reason = "does not point to a checkpoint that is there, or not as it was written"
            if content == before:
                break
        self._findings.add(layout.LAST_CHECKPOINT, reason, _NO_EVENT, kind="pointer")


def _last_of(segments: Iterable[SegmentFact]) -> int:
    return max((segment.last for segment in segments), default=-1)


def _version_in(pointer: bytes) -> int | None:
    try:
        version = json.loads(pointer)["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, int) else None
