"""What the log of a damaged table must be, told from what is left of it, of a copy, and of heads.

The walk goes from the newest entry to the first: each entry says which hash the one before it must have, so bytes from
anywhere are right or wrong, whoever offers them. Only the newest entry has no successor; for it a head says it, or its own
hash of itself where that can still be read.

What doesn't live here: data files, and putting anything in its place (`repair`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import log_versions
from event_archive.archive.log import entry_fault, parse_entry
from event_archive.archive.segments import Segment, decode_segment, encode_segment, segments_of
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.archive.log import Commit, DataFile, Sealed, SegmentFact
    from event_archive.heads.head import StreamHead
    from event_archive.storage.store import Store

_DECODED = 2
_SHOWN_HASH = re.compile(rb'"entrySha256":"([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class WrongFile:
    """A file of the log that isn't what it must be."""

    name: str
    fault: str
    content: bytes | None
    """What it must be; None if that can't be had."""
    sha256: str
    """Of what it must be; empty if not even that is known."""
    found_in: str
    """Where the content comes from; or, without one, what is needed."""


@dataclass(slots=True)
class LogFindings:
    """What the walk found."""

    version: int = -1
    """Newest version that the log has, or must have."""
    wrong: list[WrongFile] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    """Data files that are part of the table at that version."""
    seals: list[Sealed] = field(default_factory=list)
    """All seals, the newest first."""
    is_known: bool = True
    """Whether all entries are known, so that `files` and `seals` are complete."""


def walk_log(table: Store, other: Store | None, heads: list[StreamHead]) -> LogFindings:
    """Reads the log from its end to its beginning, and finds for everything that is wrong what it must be.

    Args:
        table: the table.
        other: a copy of it, in any state; None if there is none.
        heads: of the table, as far as any are known.

    Raises:
        ArchiveDamaged: a head and the log contradict each other.
    """
    return _Walk(table, other, heads).run()


class _Copies:
    """All copies of entries that a place has: in its log folder, and in any segments that can be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.versions = frozenset(log_versions(store))
        self.segments = segments_of(store)
        self._decoded: dict[str, dict[int, bytes]] = {}
        self._at_hand: tuple[int, bytes | None] = (-1, None)

    @property
    def newest(self) -> int:
        return max([-1, *self.versions, *(segment.last for segment in self.segments)])

    def in_folder(self, version: int) -> bytes | None:
        if version not in self.versions:
            return None
        if self._at_hand[0] != version:
            try:
                self._at_hand = version, self.store.read(layout.entry_name(version))
            except FileMissing:
                self._at_hand = version, None
        return self._at_hand[1]

    def in_segments(self, version: int) -> Iterator[bytes]:
        for segment in self.segments:
            if segment.first <= version <= segment.last and (entry := self._entries(segment).get(version)):
                yield entry

    def all(self, version: int) -> Iterator[bytes]:
        entry = self.in_folder(version)
        if entry is not None:
            yield entry
        yield from self.in_segments(version)

    def _entries(self, segment: Segment) -> dict[int, bytes]:
        if segment.name not in self._decoded:
            try:
                entries = dict(decode_segment(segment, self.store.read(segment.name)))
            except (ArchiveDamaged, FileMissing):
                entries = {}
            while len(self._decoded) >= _DECODED:
                self._decoded.pop(next(iter(self._decoded)))
            self._decoded[segment.name] = entries
        return self._decoded[segment.name]


@dataclass(slots=True)
class _LostSegment:
    """A segment that must be made again from the entries that the walk comes by."""

    fact: SegmentFact
    fault: str
    entries: list[bytes] = field(default_factory=list)
    """The last one first."""


class _Walk:
    def __init__(self, table: Store, other: Store | None, heads: list[StreamHead]) -> None:
        self._table = table
        self._own = _Copies(table)
        self._other = _Copies(other) if other else None
        self._heads = {head.version: head.chain_hash for head in heads if head.chain_hash}
        self._found = LogFindings(version=max([self._own.newest, *self._heads]))
        self._facts: dict[int, SegmentFact] = {}  # by last version
        self._sealed_until = -1
        self._removed: set[str] = set()
        self._lost: _LostSegment | None = None

    def run(self) -> LogFindings:
        expected: str | None = None
        for version in range(self._found.version, -1, -1):
            if head := self._heads.get(version):
                self._refuse_another_history(version, head, expected)
            self._begin_segment(version)
            expected = self._take(version, expected or head)
        self._found.files.reverse()
        return self._found

    def _refuse_another_history(self, version: int, head: str, expected: str | None) -> None:
        """A head may tell what is lost, but never that something which is whole must go."""
        found = {expected} if expected else set()
        if not found:
            found = {_sha256(entry) for entry in self._own.all(version) if _is_right(version, entry, None)}
        if found and head not in found:
            raise ArchiveDamaged(
                f"{self._table.url}: a head says that log entry {version} has the SHA-256 {head}, but the log has a whole one with "
                f"{found.pop()}: it was replaced, or the head is of another archive. Nothing was repaired, since commits "
                "would be lost; if the head is right, move that entry and those after it away and repair again."
            )

    def _take(self, version: int, expected: str | None) -> str | None:
        """Settles one entry; returns the hash that the one before it must have, None if that isn't known."""
        entry, found_in = self._right_entry(version, expected)
        self._judge(version, entry, expected, found_in)
        if entry is None:
            self._found.is_known = False
            self._drop_segment(version)
            return None
        if self._lost is not None:
            self._lost.entries.append(entry)
            if version == self._lost.fact.first:
                self._finish_segment(self._lost)
        commit, previous = parse_entry(version, entry)
        self._note(commit)
        return previous

    def _note(self, commit: Commit) -> None:
        if commit.sealed is not None:
            self._found.seals.append(commit.sealed)
            for fact in commit.sealed.segments:
                self._facts[fact.last] = fact
                self._sealed_until = max(self._sealed_until, fact.last)
        self._found.files += [file for file in reversed(commit.added) if file.path not in self._removed]
        self._removed.update(commit.removed)

    def _right_entry(self, version: int, expected: str | None) -> tuple[bytes | None, str]:
        """The bytes that the entry must have, and where they were found."""
        for entry in self._own.all(version):
            if _is_right(version, entry, expected):
                return entry, "another copy in this archive"
        if self._other is None:
            return None, ""
        shown = {match for entry in self._own.all(version) for match in _SHOWN_HASH.findall(entry)}
        for entry in self._other.all(version):
            if _is_right(version, entry, expected) and (expected or shown & {*_SHOWN_HASH.findall(entry)}):
                return entry, self._other.store.url
        return None, ""

    def _judge(self, version: int, right: bytes | None, expected: str | None, found_in: str) -> None:
        """Notes what is wrong with the copy in the log folder."""
        name = layout.entry_name(version)
        mine = self._own.in_folder(version)
        if right is not None and mine == right:
            return
        if mine is None and right is not None and version <= self._sealed_until:
            return
        if mine is None and right in [*self._own.in_segments(version)]:
            return  # of a copy that hasn't come to the seal yet
        if mine is None:
            fault = "is missing"
        elif right is None and expected is None:
            fault = entry_fault(mine) or "is another commit's entry"
        else:
            fault = entry_fault(mine) or "is not the entry that the one after it was built on"
        needed = found_in if right is not None else self._needed(expected)
        sha256 = hashlib.sha256(right).hexdigest() if right is not None else expected or ""
        self._found.wrong.append(WrongFile(name, fault, right, sha256, needed))

    def _needed(self, expected: str | None) -> str:
        if expected is not None:
            return (
                f"{'no copy' if self._other is None else self._other.store.url} has an entry with the SHA-256 {expected}; name an "
                "archive that has it with --from"
            )
        return (
            "nothing tells which entry was there: it is the newest, or the one after it is lost too; a head that names this "
            "version (--head FILE) would tell"
        )

    def _begin_segment(self, version: int) -> None:
        fact = self._facts.get(version)
        if fact is None:
            return
        try:
            if hashlib.sha256(self._table.read(fact.name)).hexdigest() == fact.sha256:
                return
            fault = "is damaged: it does not have the SHA-256 that the log says"
        except FileMissing:
            fault = "is missing"
        if self._other is not None:
            try:
                content = self._other.store.read(fact.name)
                if hashlib.sha256(content).hexdigest() == fact.sha256:
                    self._found.wrong.append(
                        WrongFile(fact.name, fault, content, fact.sha256, self._other.store.url)
                    )
                    return
            except FileMissing:
                pass
        self._lost = _LostSegment(fact, fault)

    def _finish_segment(self, lost: _LostSegment) -> None:
        self._lost = None
        content = encode_segment(lost.fact.first, lost.entries[::-1])
        if hashlib.sha256(content).hexdigest() == lost.fact.sha256:
            wrong = WrongFile(lost.fact.name, lost.fault, content, lost.fact.sha256, "its entries")
        else:
            wrong = WrongFile(
                lost.fact.name,
                lost.fault,
                None,
                lost.fact.sha256,
                "all of its entries are known, but packed by this version of zstandard they give other bytes; name an archive "
                "that has the segment with --from",
            )
        self._found.wrong.append(wrong)

    def _drop_segment(self, version: int) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            reason = f"log entry {version} is not to be had; name an archive that has the segment with --from"
            self._found.wrong.append(WrongFile(lost.fact.name, lost.fault, None, lost.fact.sha256, reason))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_right(version: int, entry: bytes, expected: str | None) -> bool:
    if expected is not None:
        return hashlib.sha256(entry).hexdigest() == expected
    if entry_fault(entry) is not None:
        return False
    try:
        parse_entry(version, entry)
    except ArchiveDamaged:
        return False
    return True
