"""The log entries that a place has, in its log folder and in its segments, none of them believed.

What doesn't live here: which of them is the right one (`entries`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import log_versions
from event_archive.archive.segments import Segment, decode_segment, segments_of
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.storage.store import Store

_DECODED = 2


class EntryCopies:
    """All copies of entries that a place has: in its log folder, and in any segments that can be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.versions = frozenset(log_versions(store))
        self.segments = segments_of(store)
        self._decoded: dict[str, tuple[dict[int, bytes], str]] = {}
        self._at_hand: tuple[int, bytes | None] = (-1, None)

    @property
    def newest(self) -> int:
        """Of the log folder, where the newest entry always lies."""
        return max(self.versions, default=-1)

    def in_folder(self, version: int) -> bytes | None:
        """The entry that lies in the log folder, None if none does."""
        if version not in self.versions:
            return None
        if self._at_hand[0] != version:
            try:
                self._at_hand = version, self.store.read(layout.entry_name(version))
            except FileMissing:
                self._at_hand = version, None
        return self._at_hand[1]

    def in_segments(self, version: int) -> Iterator[bytes]:
        """Copies from any segments that decode."""
        return (entry for entry, _, _ in self._in_segments(version))

    def in_whole_segments(self, version: int) -> Iterator[tuple[bytes, str]]:
        """Copies from segments whose bytes are those that their name says, with the SHA-256 of each segment."""
        for entry, segment, sha256 in self._in_segments(version):
            if layout.segment_name(segment.first, segment.last, sha256) == segment.name:
                yield entry, sha256

    def _in_segments(self, version: int) -> Iterator[tuple[bytes, Segment, str]]:
        for segment in self.segments:
            if segment.first <= version <= segment.last:
                entries, sha256 = self._content(segment)
                if version in entries:
                    yield entries[version], segment, sha256

    def all(self, version: int) -> Iterator[bytes]:
        """All copies of an entry, that of the log folder first."""
        entry = self.in_folder(version)
        if entry is not None:
            yield entry
        yield from self.in_segments(version)

    def next_known(self, below: int) -> int:
        """The newest version below one of which there is a copy; -1 if there is none."""
        found = max((version for version in self.versions if version < below), default=-1)
        for segment in self.segments:
            last = min(segment.last, below - 1)
            if segment.first <= last and last > found and last in self._content(segment)[0]:
                found = last
        return found

    def _content(self, segment: Segment) -> tuple[dict[int, bytes], str]:
        """Entries of a segment, none if it doesn't decode or has others than its name says; and its SHA-256."""
        if segment.name not in self._decoded:
            entries, sha256 = {}, ""
            try:
                content = self.store.read(segment.name)
                sha256 = hashlib.sha256(content).hexdigest()
                entries = dict(decode_segment(segment, content))
            except (ArchiveDamaged, FileMissing):
                pass
            while len(self._decoded) >= _DECODED:
                self._decoded.pop(next(iter(self._decoded)))
            self._decoded[segment.name] = entries, sha256
        return self._decoded[segment.name]
