"""Segments: whole log entries of a range of versions in one file, so that the log folder stays small.

A segment is the zstd (RFC 8878, with checksum) of one line of JSON, `{"first": version, "lengths": [bytes of each entry]}`, and behind it
the entries as they were, byte for byte. What doesn't live here: when entries are sealed (`event_archive.sealing`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import zstandard

from event_archive import layout
from event_archive.errors import ArchiveDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from event_archive.storage.store import Store

_LEVEL = 9
_LARGEST_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that lies in a table."""

    name: str
    first: int
    last: int


def segments_of(table: Store) -> list[Segment]:
    """The segments that a table has, by first version and the longest first."""
    found = [
        Segment(f"{layout.OWN_FOLDER}/{name}", *versions)
        for name in table.names(layout.OWN_FOLDER)
        if (versions := layout.segment_range(name))
    ]
    return sorted(found, key=lambda segment: (segment.first, -segment.last, segment.name))


def encode_segment(first: int, entries: Sequence[bytes]) -> bytes:
    """Entries of the versions from `first` on as a segment."""
    head = json.dumps({"first": first, "lengths": [len(entry) for entry in entries]}).encode() + b"\n"
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    return compressor.compress(head + b"".join(entries))


def decode_segment(segment: Segment, content: bytes) -> Iterator[tuple[int, bytes]]:
    """Versions and entries of a segment, in order.

    Raises:
        ArchiveDamaged: it is no whole segment, or another than its name says.
    """
    try:
        plain = zstandard.ZstdDecompressor().decompress(content, max_output_size=_LARGEST_BYTES)
        head, _, entries = plain.partition(b"\n")
        described = json.loads(head)
        first, lengths = described["first"], described["lengths"]
    except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"segment {segment.name} is damaged: {error}.") from error
    if (first, len(lengths), sum(lengths)) != (
        segment.first,
        segment.last - segment.first + 1,
        len(entries),
    ):
        raise ArchiveDamaged(f"segment {segment.name} is damaged: it holds other entries than its name says.")
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    for version, (begin, end) in enumerate(pairwise(ends), first):
        yield version, entries[begin:end]
