"""Walking a log that may be damaged: every copy of every entry, in the log folder and in segments, and those that prove themselves.

What doesn't live here: what the entries say (`ledger`), whether segments are the ones that were sealed (`seals`).
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import log_versions
from event_archive.archive.log import Commit, entry_fault, parse_entry
from event_archive.archive.segments import Segment, decode_segment, segments_of
from event_archive.errors import ArchiveDamaged, EventArchiveError, FileMissing
from event_archive.sources.claims import spans
from event_archive.verify.findings import Findings, ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.storage.store import Store

_ENTRIES_AT_ONCE = 256
UNREADABLE = (KeyError, IndexError, ValueError, TypeError, OverflowError, AttributeError, zlib.error)
"""What reading claims raises that aren't as they were written."""


@dataclass(frozen=True, slots=True)
class Link:
    """A proved entry."""

    commit: Commit
    entry: bytes


@dataclass(slots=True)
class Lost:
    """Versions of which no whole entry is left."""

    first: int
    last: int
    finding: int
    """Number of the damage that tells of it."""
    is_missing: bool = False
    """Whether there is no copy at all, not even a damaged one."""


@dataclass(slots=True)
class Left:
    """Versions whose entries aren't in the log folder, and are whole in a segment."""

    first: int
    last: int
    segment: str
    """One that has the first of them."""


@dataclass(slots=True)
class SeenSegment:
    """A segment as it was found."""

    sha256: str
    first: int
    last: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class _Copy:
    commit: Commit
    previous: str | None
    entry: bytes
    segment: str | None
    """Where it was found; None in the log folder."""


@dataclass(slots=True)
class _OpenSegment:
    segment: Segment
    entries: list[bytes]


class LogWalk:
    """One walk over the log of a table."""

    def __init__(self, table: Store, findings: Findings, *, until: int | None = None) -> None:
        """Looks at nothing yet.

        Args:
            table: the table.
            findings: takes what is wrong.
            until: last version to walk to; None for all.
        """
        self._table = table
        self._findings = findings
        self._until = until
        self.segments: dict[str, SeenSegment] = {}
        """By name, all that the walk has come to."""
        self.lost: list[Lost] = []
        self.left: list[Left] = []
        self._unopened: list[Segment] = []
        self._open: list[_OpenSegment] = []
        self._newest = -1

    def links(self) -> Iterator[Link]:
        """The entries that prove themselves, in order; the others become findings.

        Where copies of one entry differ, the one counts on which the next entry was built.
        """
        before: Commit | None = None
        held: tuple[int, list[_Copy]] | None = None
        for version, copies in self._copies():
            if held is not None:
                link = self._settle(*held, {copy.previous for copy in copies}, before)
                before = link.commit
                yield link
            held = (version, copies) if copies else None
        if held is not None:
            yield self._settle(*held, set(), before)

    def _settle(
        self, version: int, copies: list[_Copy], claimed: set[str | None], before: Commit | None
    ) -> Link:
        """Decides between the copies of an entry; `claimed` is what copies of the next one were built on."""
        known = before.entry_sha256 if before and before.version == version - 1 else None
        chosen = max(copies, key=lambda copy: (copy.commit.entry_sha256 in claimed, copy.previous == known))
        if version == 0 and chosen.previous is not None:
            self._findings.entry(0, "says that an entry came before it, which was cut off")
        if before is not None and known is not None and chosen.previous != known:
            self._findings.entry(
                version - 1,
                f"is not the entry on which commit {version} was built: it was replaced",
                affected_by(before),
            )
        for copy in copies:
            if copy.entry == chosen.entry:
                continue
            if copy.segment is not None:
                self.segments[copy.segment].fault = f"holds another entry {version} than the log"
            else:
                self._findings.entry(
                    version,
                    f"is another entry than the one on which the log goes on, which {chosen.segment} holds",
                    affected_by(copy.commit),
                )
        return Link(chosen.commit, chosen.entry)

    def _copies(self) -> Iterator[tuple[int, list[_Copy]]]:
        """All whole copies of each entry, by version; none of one that is lost. The log folder says which is the newest."""
        folder = log_versions(self._table)
        # Listed after the entries: what leaves the log folder meanwhile is in a segment by then.
        self._unopened = segments_of(self._table)
        self._newest = max(folder, default=-1)
        in_folder = self._folder_entries(folder)
        ahead = next(in_folder, None)
        version = 0
        while self._until is None or version <= self._until:
            self._open_segments(version)
            if version > self._newest:
                break
            if not self._open and (ahead is None or ahead[0] > version):
                upto = min(
                    self._newest + 1 if ahead is None else ahead[0],
                    self._unopened[0].first if self._unopened else self._newest + 1,
                )
                self._lose_all(version, upto - 1)
                version = upto
                continue
            in_log_folder: bytes | EventArchiveError | None = None
            if ahead is not None and ahead[0] == version:
                in_log_folder = ahead[1]
                ahead = next(in_folder, None)
            if isinstance(in_log_folder, FileMissing):
                self._look_for_new_segments(version)  # sealed after it was listed
                in_log_folder = None
            yield version, self._copies_of(version, in_log_folder)
            version += 1
            self._open = [opened for opened in self._open if opened.segment.last >= version]

    def _copies_of(self, version: int, in_log_folder: bytes | EventArchiveError | None) -> list[_Copy]:
        found = []
        fault = ""
        if in_log_folder is not None:
            copy = self._proved(version, in_log_folder, None)
            if isinstance(copy, _Copy):
                found.append(copy)
            else:
                fault = copy
        for opened in self._open:
            copy = self._proved(version, opened.entries[version - opened.segment.first], opened.segment.name)
            if isinstance(copy, _Copy):
                found.append(copy)
            else:
                self.segments[opened.segment.name].fault = f"holds an entry {version} that {copy}"
        if not found:
            self._lose(version, fault, in_log_folder)
        elif in_log_folder is None:
            self._note_left(version, found[0].segment or "")
        elif fault:
            self._findings.entry(version, fault, f"no event: {found[0].segment} has it whole")
        return found

    def _folder_entries(self, versions: list[int]) -> Iterator[tuple[int, bytes | EventArchiveError]]:
        """Entries of the log folder, several at a time; what can't be read comes as its error."""
        for start in range(0, len(versions), _ENTRIES_AT_ONCE):
            some = versions[start : start + _ENTRIES_AT_ONCE]
            try:
                yield from list(
                    zip(some, self._table.read_many([layout.entry_name(v) for v in some]), strict=True)
                )
            except EventArchiveError:
                for version in some:
                    try:
                        yield version, self._table.read(layout.entry_name(version))
                    except EventArchiveError as error:
                        yield version, error

    def _open_segments(self, version: int) -> None:
        """Reads the segments that begin here, or next if nothing else is left."""
        while self._unopened and (self._unopened[0].first <= version or version > self._newest):
            segment = self._unopened.pop(0)
            if (entries := self._read_segment(segment)) is not None and segment.last >= version:
                self._open.append(_OpenSegment(segment, entries))

    def _look_for_new_segments(self, version: int) -> None:
        known = {*self.segments, *(segment.name for segment in self._unopened)}
        self._unopened += [segment for segment in segments_of(self._table) if segment.name not in known]
        self._unopened.sort(key=lambda segment: segment.first)
        self._open_segments(version)

    def _read_segment(self, segment: Segment) -> list[bytes] | None:
        seen = SeenSegment("", segment.first, segment.last, None)
        self.segments[segment.name] = seen
        try:
            content = self._table.read(segment.name)
            seen.sha256 = hashlib.sha256(content).hexdigest()
            self._findings.bytes_read += len(content)
            return [entry for _, entry in decode_segment(segment, content)]
        except ArchiveDamaged:
            seen.fault = "is damaged: it does not decode"
        except FileMissing:
            del self.segments[segment.name]  # if it was one of a seal, that is said there
        except EventArchiveError as error:
            seen.fault = f"can't be read ({error})"
        return None

    def _proved(self, version: int, entry: bytes | EventArchiveError, segment: str | None) -> _Copy | str:
        """A copy that proves itself, or what is wrong with it."""
        if isinstance(entry, EventArchiveError):
            return f"can't be read ({error_text(entry)})"
        if segment is None:
            self._findings.bytes_read += len(entry)
        if fault := entry_fault(entry):
            return fault
        try:
            commit, previous = parse_entry(version, entry)
        except ArchiveDamaged as error:
            return f"is damaged: {error_text(error)}"
        return _Copy(commit, previous, entry, segment)

    def _note_left(self, version: int, segment: str) -> None:
        if self.left and self.left[-1].last == version - 1:
            self.left[-1].last = version
        else:
            self.left.append(Left(version, version, segment))

    def _lose(self, version: int, fault: str, suspect: bytes | EventArchiveError | None) -> None:
        """Records that no whole copy of an entry is left."""
        if not fault:
            self._lose_all(version, version)
            return
        number = self._findings.entry(version, fault, readable_effect(version, suspect))
        self.lost.append(Lost(version, version, number))

    def _lose_all(self, first: int, last: int) -> None:
        """Records that there is no copy of entries."""
        before = self.lost[-1] if self.lost else None
        if before is None or before.last != first - 1 or not before.is_missing:
            before = Lost(first, last, self._findings.entry(first, "is missing"), is_missing=True)
            self.lost.append(before)
        before.last = last
        if before.last > before.first:
            self._findings.reword(before.finding, f"is missing, and all up to {last}")


def affected_by(commit: Commit) -> str:
    """What a commit claims to have brought, in words."""
    try:
        found = spans(commit.claims)
    except UNREADABLE:
        return "the events of that commit"
    told = ranges((span.name, span.first_offset, span.next_offset) for span in found if span.events)
    return told or "no event"


def readable_effect(version: int, entry: bytes | EventArchiveError | None) -> str:
    """What a damaged entry says of itself, where it still parses; a hint, no proof."""
    if isinstance(entry, bytes):
        with contextlib.suppress(ArchiveDamaged):
            commit, _ = parse_entry(version, entry)
            return affected_by(commit) + ", if it can be believed"
    return ""


def error_text(error: EventArchiveError) -> str:
    """An error inside another sentence."""
    return str(error).rstrip(".")
