"""What the log of a damaged table must be, told from what is left of it, of a copy, and of heads.

The walk goes from the newest entry to the first: each entry says which hash the one before it must have, so bytes from
anywhere are right or wrong, whoever offers them. Only the newest entry has no successor; for it a head says it, or its own
hash of itself where that can still be read.

The newest entry is the newest of the log folder. Segments that hold newer ones tell that entries were cut off there: those that follow on
the folder's newest entry without a doubt are put back. Never does such a segment outvote an entry of the folder that is whole.

What doesn't live here: data files, and putting anything in its place (`repair`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.log import entry_fault, parse_entry
from event_archive.archive.segments import encode_segment
from event_archive.errors import ArchiveDamaged, FileMissing
from event_archive.repair.copies import EntryCopies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.archive.log import Commit, DataFile, Sealed, SegmentFact
    from event_archive.heads.head import StreamHead
    from event_archive.storage.store import Store

_FOLLOWING = "a segment with entries that follow on the newest one of the log folder; only a head tells whether more came after them"
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
    is_entry_missing: bool = False
    """Whether it is a log entry where none is: then nothing may be replaced, should there be one by now."""


@dataclass(slots=True)
class LogFindings:
    """What the walk found."""

    version: int = -1
    """Newest version that the log has, or must have. Not what a segment says that doesn't follow on the log."""
    wrong: list[WrongFile] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    """Data files that are part of the table at that version."""
    stray: list[WrongFile] = field(default_factory=list)
    """Segments that reach beyond the log and don't follow on it; while they lie there no table is opened."""
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
        self._own = EntryCopies(table)
        self._other = EntryCopies(other) if other else None
        self._heads = {head.version: head.chain_hash for head in heads if head.chain_hash}
        self._facts: dict[int, SegmentFact] = {}  # by last version
        self._sealed_until = -1
        self._removed: set[str] = set()
        self._lost: _LostSegment | None = None
        self._known_until = -1
        self._followers: dict[int, str] = {}
        self._followers = self._following()
        self._found = LogFindings(version=max([self._own.newest, *self._followers, *self._heads]))

    def run(self) -> LogFindings:
        expected: str | None = None
        version = self._found.version
        while version >= 0:
            head = self._heads.get(version)
            if head is not None:
                self._refuse_another_history(version, head, expected)
            expected = expected or head or self._followers.get(version)
            has_copy = next(self._own.all(version), None) is not None
            if expected is None and not has_copy and version not in self._facts:
                version = self._pass_over_gap(version)
                continue
            self._begin_segment(version)
            expected = self._take(version, expected)
            version -= 1
        self._found.files.reverse()
        self._note_stray_segments()
        return self._found

    def _following(self) -> dict[int, str]:
        """SHA-256 of the entries that segments have beyond the newest one of the folder and that follow on it, by version.

        Where two histories follow, or a head says another hash, nothing is known.
        """
        version = self._own.newest
        before: str | None = None
        if version >= 0:
            entry, _ = self._right_entry(version, self._heads.get(version))
            if entry is None:
                return {}
            before = _sha256(entry)
        found: dict[int, str] = {}
        while True:
            version += 1
            entries = {
                entry
                for entry, _ in self._own.in_whole_segments(version)
                if _is_right(version, entry, self._heads.get(version))
                and parse_entry(version, entry)[1] == before
            }
            if len(entries) != 1:
                return found
            before = found[version] = _sha256(entries.pop())

    def _pass_over_gap(self, version: int) -> int:
        """Notes versions of which nothing is left or told; returns the next one of which something is.

        They are one finding, however many they are: the name of a stray file may claim any version.
        """
        last_known = max(
            [
                self._own.next_known(version),
                *(known for known in (*self._heads, *self._facts) if known < version),
            ]
        )
        self._found.is_known = False
        self._drop_segment(version)
        others = f", and so are all before it down to {last_known + 1}" if last_known < version - 1 else ""
        self._found.wrong.append(
            WrongFile(layout.entry_name(version), f"is missing{others}", None, "", self._needed(None))
        )
        return last_known

    def _note_stray_segments(self) -> None:
        """Notes segments that still reach beyond the newest entry of the folder when everything is put back."""
        end = max(self._own.newest, self._known_until)
        for segment in self._own.segments:
            if segment.last > end:
                self._found.stray.append(
                    WrongFile(
                        segment.name,
                        f"says that the log has entries up to {segment.last}, and it ends at {end}",
                        None,
                        "",
                        f"nothing shows that they follow on entry {end}: if that is the newest one, move this file out of the archive; "
                        "if not, name a head (--head FILE) or an archive that has the entries (--from)",
                    )
                )

    def _refuse_another_history(self, version: int, head: str, expected: str | None) -> None:
        """A head may tell what is lost, but never that something which is whole must go."""
        found = {expected} if expected else set()
        if not found and version <= self._own.newest:
            entry = self._own.in_folder(version)
            there = (
                [entry] if entry is not None else [entry for entry, _ in self._own.in_whole_segments(version)]
            )
            found = {_sha256(entry) for entry in there if _is_right(version, entry, None)}
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
        self._known_until = max(self._known_until, version)
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
        copies = self._own.all(version) if expected is not None else self._vouched(version)
        for entry in copies:
            if _is_right(version, entry, expected):
                return entry, _FOLLOWING if version in self._followers else "another copy in this archive"
        if self._other is None:
            return None, ""
        sealed = {fact.sha256 for fact in self._facts.values()}
        for entry, segment in self._other.in_whole_segments(version):
            if segment in sealed and _is_right(version, entry, expected):
                return entry, self._other.store.url
        shown = {match for entry in self._own.all(version) for match in _SHOWN_HASH.findall(entry)}
        for entry in self._other.all(version):
            if _is_right(version, entry, expected) and (expected or shown & {*_SHOWN_HASH.findall(entry)}):
                return entry, self._other.store.url
        return None, ""

    def _vouched(self, version: int) -> Iterator[bytes]:
        """Copies that may be believed where no chain demands any: the folder's, and those of segments that it doesn't speak against.

        Segments that a seal names come first. Beyond the newest entry of the folder there is nothing to be believed.
        """
        if version > self._own.newest:
            return
        mine = self._own.in_folder(version)
        if mine is not None:
            yield mine
        there = list(self._own.in_whole_segments(version))
        sealed = {fact.sha256 for fact in self._facts.values()}
        yield from (entry for entry, segment in there if segment in sealed)
        shown = {*_SHOWN_HASH.findall(mine or b"")}
        before = self._own.in_folder(version - 1)
        for entry, _ in there:
            if not _is_right(version, entry, None) or (shown and not shown & {*_SHOWN_HASH.findall(entry)}):
                continue
            if before is None or parse_entry(version, entry)[1] in (None, _sha256(before)):
                yield entry

    def _judge(self, version: int, right: bytes | None, expected: str | None, found_in: str) -> None:
        """Notes what is wrong with the copy in the log folder."""
        name = layout.entry_name(version)
        mine = self._own.in_folder(version)
        if right is not None and mine == right:
            return
        if mine is None and right is not None and version <= self._sealed_until:
            return
        if mine is None and version < self._own.newest and right in [*self._own.in_segments(version)]:
            return  # of a copy that hasn't come to the seal yet
        if mine is None:
            fault = "is missing"
        elif right is None and expected is None:
            fault = entry_fault(mine) or "is another commit's entry"
        else:
            fault = entry_fault(mine) or "is not the entry that the one after it was built on"
        needed = found_in if right is not None else self._needed(expected)
        sha256 = hashlib.sha256(right).hexdigest() if right is not None else expected or ""
        self._found.wrong.append(WrongFile(name, fault, right, sha256, needed, is_entry_missing=mine is None))

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
