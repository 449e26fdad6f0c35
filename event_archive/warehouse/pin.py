"""What a build sees of the archive: the newest commit of each stream at the moment it starts, and not a file more.

What doesn't live here: how a log is read (`event_archive.archive.snapshot`), and how it is shown to dbt (its plugin).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.archive.snapshot import read_snapshot
from event_archive.warehouse.build import PinnedStream

if TYPE_CHECKING:
    from event_archive.config import Config


def pin_streams(config: Config) -> dict[str, PinnedStream]:
    """Pin every configured stream at its newest commit; a stream without any is pinned as empty.

    Raises:
        ArchiveDamaged: The log of a stream can't be read; nothing is built on it.
    """
    pinned = {}
    for name in config.streams:
        snapshot = read_snapshot(config.table(name))
        pinned[name] = PinnedStream(
            version=snapshot.version,
            files=tuple(snapshot.file_paths()),
            events=snapshot.events,
            chain_hash=snapshot.chain_hash,
        )
    return pinned
