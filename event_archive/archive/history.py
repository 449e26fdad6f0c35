"""The history of a table: its log entries in order, wherever they lie, each proved.

The newest entries lie in Delta's log folder, one file each; older ones may be sealed into segments and have left it. What
doesn't live here: what an entry holds (`log`), how segments are made (`event_archive.sealing`).
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.log import REMEDY, Commit, entry_fault, parse_entry
from event_archive.archive.segments import Segment, decode_segment, segments_of
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.storage.store import Store

_ENTRIES_AT_ONCE = 256


def log_versions(table: Store) -> list[int]:
    """Versions whose entries lie in the log folder, in order; empty if there is no table."""
    names = table.names(layout.LOG_FOLDER)
    return sorted(version for name in names if (version := layout.entry_version(name)) is not None)


def newest_version(table: Store) -> int:
    """Version of the newest entry, -1 if there is none."""
    versions = log_versions(table)
    sealed = segments_of(table) if not versions or versions[0] else []
    return max([-1, *versions[-1:], *(segment.last for segment in sealed)])


def refuse_lost_log(table: Store) -> None:
    """Refuses a table that has data files but no log: starting it anew would archive everything a second time.

    Raises:
        ArchiveDamaged: the log was there once.
    """
    if lost := next((file.name for file in table.files() if layout.is_data_file(file.name)), None):
        raise ArchiveDamaged(f"{table.url}: has data files ({lost}) but no log entries. {REMEDY}")


def iter_entries(table: Store, *, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Versions and bytes of the entries from `first` on, in order, unproved.

    Raises:
        ArchiveDamaged: an entry is neither in the log folder nor in a segment, or a segment is damaged.
    """
    expected = first
    while True:
        try:
            for version, entry in _listed_entries(table, expected):
                yield version, entry
                expected = version + 1
        except FileMissing as error:
            # Sealed after it was listed: then a segment has it by now. Otherwise it is lost.
            if _segment_with(segments_of(table), expected) is None:
                raise ArchiveDamaged(f"{table.url}: log entry {expected} is missing. {REMEDY}") from error
        else:
            return


def _listed_entries(table: Store, expected: int) -> Iterator[tuple[int, bytes]]:
    versions = [version for version in log_versions(table) if version >= expected]
    # Listed after the entries: what leaves the log folder meanwhile is in a segment by then.
    sealed = segments_of(table) if versions != list(range(expected, expected + len(versions))) else []
    if not versions:
        sealed = segments_of(table)
    at = 0
    while at < len(versions) or _segment_with(sealed, expected):
        if at < len(versions) and versions[at] == expected:
            run = [
                v
                for v, e in zip(versions[at : at + _ENTRIES_AT_ONCE], count(expected), strict=False)
                if v == e
            ]
            entries = table.read_many([layout.entry_name(version) for version in run])
            yield from zip(run, entries, strict=True)
            at, expected = at + len(run), expected + len(run)
            continue
        segment = _segment_with(sealed, expected)
        if segment is None:
            raise ArchiveDamaged(f"{table.url}: log entry {expected} is missing. {REMEDY}")
        upto = min(segment.last + 1, versions[at] if at < len(versions) else segment.last + 1)
        yield from ((v, entry) for v, entry in _read_segment(table, segment) if expected <= v < upto)
        expected = upto


def _segment_with(sealed: list[Segment], version: int) -> Segment | None:
    return next((segment for segment in sealed if segment.first <= version <= segment.last), None)


def _read_segment(table: Store, segment: Segment) -> Iterator[tuple[int, bytes]]:
    try:
        yield from decode_segment(segment, table.read(segment.name))
    except (ArchiveDamaged, FileMissing) as error:
        raise ArchiveDamaged(f"{table.url}: {error} {REMEDY}") from error


def iter_commits(
    table: Store, *, after: tuple[int, str] | None = None, until: int | None = None
) -> Iterator[Commit]:
    """Commits in order, each proved by its own hash and built on the one before it.

    Args:
        table: the table; without a log there is nothing to yield.
        after: a version and the SHA-256 of its entry, if what came up to it is known; None from the beginning.
        until: last version to yield, None for all.

    Raises:
        ArchiveDamaged: an entry is missing, empty, doesn't parse, or isn't the one that its successor was built on; or there is
            no commit `until`.
    """
    last = after[0] if after else -1
    for commit, _ in iter_proved_entries(table, after=after):
        last = commit.version
        if until is None or last <= until:
            yield commit
    if until is not None and until > last:
        raise ArchiveDamaged(
            f"{table.url}: commit {until} was asked for, but the newest log entry is {last}."
        )


def iter_proved_entries(
    table: Store, *, after: tuple[int, str] | None = None
) -> Iterator[tuple[Commit, bytes]]:
    """The same, with the bytes of each entry."""
    last, before = after or (-1, None)
    for version, entry in iter_entries(table, first=last + 1):
        place = table.place(layout.entry_name(version))
        if fault := entry_fault(entry):
            raise ArchiveDamaged(f"{place} {fault}. {REMEDY}")
        try:
            commit, previous = parse_entry(version, entry)
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{place}: {error} {REMEDY}") from error
        if previous != before:
            raise ArchiveDamaged(
                f"{table.url}: log entry {version} was built on another entry {version - 1} than the one in the log. {REMEDY}"
            )
        before = commit.entry_sha256
        yield commit, entry
