"""What each stream holds, and what its source has beyond it.

What doesn't live here: proof that it is whole (`verify`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.archive.snapshot import read_snapshot
from event_archive.sources.files.landing import scan
from event_archive.sources.files.positions import OPEN_LINE, Positions
from event_archive.sources.files.reading import is_unchanged

if TYPE_CHECKING:
    from event_archive.archive.log import DataFile
    from event_archive.config import Config


@dataclass(frozen=True, slots=True)
class Lag:
    """What the source has and the archive hasn't."""

    files: int
    """Files that are new or look otherwise than when they were archived."""
    bytes: int
    """Their size on the disk, less what is archived of those that have grown and aren't compressed."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream as it is now. Times are ISO 8601 in UTC."""

    stream: str
    events: int
    bytes: int
    """Bytes of values."""
    stored_bytes: int
    """Size of the data files."""
    files: int
    commits: int
    version: int
    chain_hash: str | None
    first_event_time: str | None
    last_event_time: str | None
    first_ingested_at: str | None
    last_ingested_at: str | None
    positions: dict[str, int]
    """Next offset of each source."""
    lag: Lag
    gone: tuple[str, ...]
    """Archived files that are not in the landing folder any more."""
    unreadable: tuple[str, ...]
    """Files that can't be read, or that are damaged and not accepted."""


def stream_status(config: Config, stream: str) -> StreamStatus:
    """Status of one stream; opens no data file and no source file.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the log can't be read.
    """
    landing = config.stream(stream).source.path
    positions = Positions()
    snapshot = read_snapshot(config.table(stream), on_commit=positions.note)
    files, unreadable = scan(landing)
    waiting_files = waiting_bytes = 0
    for file in files:
        state = positions.by_path.get(file.path)
        if state is None:
            waiting_files += bool(file.size_bytes)
            waiting_bytes += file.size_bytes
        elif not is_unchanged(file, state) or state.left == OPEN_LINE:
            is_plain = not file.path.endswith((".gz", ".zst"))
            ahead = file.size_bytes - (state.position_bytes if is_plain else state.size_bytes)
            waiting_files += ahead != 0
            waiting_bytes += max(ahead, 0)
    there = {file.path for file in files}
    return StreamStatus(
        stream=stream,
        events=snapshot.events,
        bytes=snapshot.value_bytes,
        stored_bytes=sum(file.size_bytes for file in snapshot.files),
        files=len(snapshot.files),
        commits=snapshot.commits,
        version=snapshot.version,
        chain_hash=snapshot.chain_hash,
        first_event_time=_bound(snapshot.files, "minValues", "event_time"),
        last_event_time=_bound(snapshot.files, "maxValues", "event_time"),
        first_ingested_at=_bound(snapshot.files, "minValues", "ingested_at"),
        last_ingested_at=_bound(snapshot.files, "maxValues", "ingested_at"),
        positions={state.source_id: state.records for state in positions.by_path.values()},
        lag=Lag(waiting_files, waiting_bytes),
        gone=tuple(sorted(path for path in positions.by_path if path not in there)),
        unreadable=tuple(
            [f"{landing / problem.path} {problem.reason}" for problem in unreadable]
            + [
                f"{landing / path} {state.left.partition(': ')[2]}"
                for path, state in positions.by_path.items()
                if state.is_damaged
            ]
        ),
    )


def _bound(files: tuple[DataFile, ...], side: str, name: str) -> str | None:
    """Smallest or largest value of a timestamp column; ISO 8601 in UTC sorts as text does."""
    values = [value for file in files if (value := file.stats[side].get(name)) is not None]
    if not values:
        return None
    return str(min(values) if side == "minValues" else max(values))
