"""Entries that were cut off from the end of the log, as far as segments tell of them.

What doesn't live here: data files that tell of them (`stream`), and heads that were kept elsewhere (`event_archive.heads`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.archive.history import newest_version
from event_archive.archive.log import entry_fault, parse_entry
from event_archive.archive.segments import decode_segment, segments_of
from event_archive.errors import ArchiveDamaged, FileMissing
from event_archive.sources.claims import spans
from event_archive.verify.findings import Findings, ranges
from event_archive.verify.walk import UNREADABLE

if TYPE_CHECKING:
    from event_archive.storage.store import Store

_MORE = "the events of those commits"


def check_cut_off(table: Store, findings: Findings) -> int:
    """Looks for segments beyond the newest entry of the log folder: it is never sealed before a newer one lies there.

    Returns:
        The newest version that one of them has, -1 if there are none.
    """
    sealed = segments_of(table)  # before the log folder: what is sealed is older than what is there then
    newest = newest_version(table)
    beyond = [segment for segment in sealed if segment.last > newest]
    known = {damage.name for damage in findings.damages}
    stretches: dict[str, tuple[int, int]] = {}
    names: list[str] = []
    last = -1
    for segment in beyond:
        try:
            for version, entry in decode_segment(segment, table.read(segment.name)):
                if version > newest and not entry_fault(entry):
                    last = max(last, version)
                    _add_stretches(stretches, version, entry)
            names.append(segment.name)
        except (ArchiveDamaged, FileMissing):
            if segment.name not in known:
                findings.add(
                    segment.name,
                    "is damaged, and by its name it reaches beyond the newest entry of the log folder",
                    _MORE,
                    kind="segment",
                )
    if last < 0:
        return -1
    told = ranges((name, first, after) for name, (first, after) in stretches.items())
    findings.entry(
        newest + 1,
        f"is missing{f', and all up to {last}' if last > newest + 1 else ''}: the log folder {f'ends at {newest}' if newest >= 0 else 'is empty'}, "
        f"its newest entries were cut off, and {names[-1]} still has them",
        f"{_MORE}, among them {told}" if told else _MORE,
    )
    return last


def _add_stretches(stretches: dict[str, tuple[int, int]], version: int, entry: bytes) -> None:
    try:
        commit, _ = parse_entry(version, entry)
        found = spans(commit.claims)
    except (ArchiveDamaged, *UNREADABLE):
        return
    for span in found:
        if span.events:
            first, after = stretches.get(span.name, (span.first_offset, span.next_offset))
            stretches[span.name] = (min(first, span.first_offset), max(after, span.next_offset))
