"""What a build sees of the archive: one commit of each stream, and what was there at it; not an event more.

What doesn't live here: which commits those are when it isn't the newest (`event_archive.recompute.as_of`), how a log is read
(`event_archive.archive.snapshot`), and how it is shown to dbt (its plugin).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.archive.snapshot import Snapshot, read_snapshot
from event_archive.archive.span_table import commit_range
from event_archive.errors import ArchiveDamaged
from event_archive.warehouse.build import PinnedStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from event_archive.config import Config


def pin_streams(config: Config, *, at: Mapping[str, int] | None = None) -> dict[str, PinnedStream]:
    """Pin every configured stream; one without any commit is pinned as empty.

    Args:
        config: The configuration.
        at: The commit at which each stream is pinned, -1 for none of its events; streams that aren't named, as all by default,
            are pinned at their newest one.

    Raises:
        ArchiveDamaged: The log of a stream can't be read, or hasn't the commit; nothing is built on it.
    """
    pinned = {}
    for name in config.streams:
        newest = read_snapshot(config.table(name))
        version = newest.version if at is None else at.get(name, newest.version)
        pinned[name] = _pinned(newest, version)
    return pinned


def _pinned(newest: Snapshot, version: int) -> PinnedStream:
    if version > newest.version:
        raise ArchiveDamaged(
            f"{newest.table.url} ends with commit {newest.version}, but commit {version} was asked for: the archive was cut off, or it "
            "is another one. `event-archive verify` tells."
        )
    if version < 0:
        return PinnedStream(version=-1, files=(), events=0)
    seen = newest
    if version < newest.version:
        # A later compaction only puts the same events into other files, each with its commit: no older file is needed.
        seen = read_snapshot(newest.table, version=version)
    files = [(file, *commit_range(file)) for file in newest.files if file.num_records]
    files = [(file, first, last) for file, first, last in files if first <= version]
    return PinnedStream(
        version=version,
        files=tuple(newest.file_paths([file for file, _, _ in files])),
        events=seen.events,
        chain_hash=seen.chain_hash,
        last_commits=tuple(last for _, _, last in files),
    )
