"""The history of a table: its log entries in order, wherever they lie, each proved.

The newest entries lie in Delta's log folder, one file each; older ones may be sealed into segments and have left it. What
doesn't live here: what an entry holds (`log`), how segments are made (`event_archive.sealing`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
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
    """Version of the newest entry, -1 if there is none.

    It lies in the log folder: only entries that a seal has named leave it, and that seal is newer than they are. Segments
    never make a log longer.
    """
    return max(log_versions(table), default=-1)


def refuse_cut_off_log(table: Store) -> None:
    """Refuses a table whose segments hold entries beyond the newest one of the log folder: entries were cut off there.

    Raises:
        ArchiveDamaged: going on from there would make a second history.
    """
    sealed = segments_of(table)  # before the log folder: what is sealed is older than what is there then
    newest = newest_version(table)
    beyond = [segment for segment in sealed if segment.last > newest]
    if beyond:
        raise ArchiveDamaged(
            f"{table.url}: {beyond[-1].name} holds log entries up to {beyond[-1].last}, but the log folder ends at {newest}: its newest "
            f"entries are missing, or this is a copy that hasn't ended. {REMEDY}"
        )


def refuse_lost_log(table: Store) -> None:
    """Refuses a table that has data files but no log: starting it anew would archive everything a second time.

    Raises:
        ArchiveDamaged: the log was there once.
    """
    # By folders, which may be links to elsewhere; and before the log, which every first writer begins before its data.
    lost = next((name for name in table.folders() if layout.is_date_folder(name)), None)
    if lost is not None and newest_version(table) < 0:
        raise ArchiveDamaged(f"{table.url}: has data files ({lost}) but no log entries. {REMEDY}")


@dataclass(slots=True)
class _Reading:
    """What is known to be of no use while a log is read."""

    gone: set[int] = field(default_factory=set)
    """Versions that were listed in the log folder and aren't there, or are links to nothing."""
    useless: set[str] = field(default_factory=set)
    """Names of segments that are damaged, or that hold other entries than those that the log is built on."""


def iter_entries(table: Store, *, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Versions and bytes of the entries from `first` on, in order, unproved.

    Raises:
        ArchiveDamaged: an entry is neither in the log folder nor in a segment that is whole.
    """
    for version, entry, _ in _entries(table, first, _Reading()):
        yield version, entry


def _entries(table: Store, first: int, reading: _Reading) -> Iterator[tuple[int, bytes, str | None]]:
    """The same, with the name of the segment that an entry comes from, None for the log folder."""
    expected = first
    while True:
        try:
            for version, entry, segment in _listed_entries(table, expected, reading):
                yield version, entry, segment
                expected = version + 1
        except FileMissing:
            reading.gone.add(expected)  # sealed after it was listed: then a segment has it by now
        except _UselessSegment:
            continue
        else:
            return


class _UselessSegment(Exception):
    """A segment was found damaged; others may have its entries."""


def _listed_entries(
    table: Store, expected: int, reading: _Reading
) -> Iterator[tuple[int, bytes, str | None]]:
    versions = [v for v in log_versions(table) if v >= expected and v not in reading.gone]
    # Listed after the entries: what leaves the log folder meanwhile is in a segment by then.
    is_unbroken = versions == list(range(expected, expected + len(versions)))
    sealed = [] if is_unbroken else [s for s in segments_of(table) if s.name not in reading.useless]
    at = 0
    while at < len(versions):
        if versions[at] == expected:
            some = versions[at : at + _ENTRIES_AT_ONCE]
            run = [
                version
                for version, unbroken in zip(some, count(expected), strict=False)
                if version == unbroken
            ]
            entries = table.read_many([layout.entry_name(version) for version in run])
            for version, entry in zip(run, entries, strict=True):
                yield version, entry, None
            at, expected = at + len(run), expected + len(run)
            continue
        segment = next((s for s in sealed if s.first <= expected <= s.last), None)
        if segment is None:
            raise ArchiveDamaged(f"{table.url}: log entry {expected} is missing. {REMEDY}")
        upto = min(segment.last + 1, versions[at])
        for version, entry in _read_segment(table, segment, reading):
            if expected <= version < upto:
                yield version, entry, segment.name
        expected = upto


def _read_segment(table: Store, segment: Segment, reading: _Reading) -> list[tuple[int, bytes]]:
    """Entries of a segment.

    Raises:
        _UselessSegment: it isn't the one that its name says; it is noted.
    """
    try:
        content = table.read(segment.name)
        if (
            layout.segment_name(segment.first, segment.last, hashlib.sha256(content).hexdigest())
            == segment.name
        ):
            return list(decode_segment(segment, content))
    except (ArchiveDamaged, FileMissing):
        pass
    reading.useless.add(segment.name)
    raise _UselessSegment


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
    reading = _Reading()
    while True:
        for version, entry, segment in _entries(table, last + 1, reading):
            try:
                commit = _proved(table, version, entry, before)
            except ArchiveDamaged:
                if segment is None:
                    raise
                reading.useless.add(segment)  # another may have the entry on which the log goes on
                break
            last, before = version, commit.entry_sha256
            yield commit, entry
        else:
            return


def _proved(table: Store, version: int, entry: bytes, before: str | None) -> Commit:
    """The commit of an entry that proves itself, and is built on the one before."""
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
    return commit
