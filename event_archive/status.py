"""What each stream holds, and what its source has beyond it.

What doesn't live here: proof that it is whole (`verify`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.archive.snapshot import Snapshot, read_snapshot
from event_archive.source_config import FilesSource
from event_archive.sources.files.positions import Positions
from event_archive.sources.files.status import files_status

if TYPE_CHECKING:
    from event_archive.archive.log import DataFile
    from event_archive.config import Config
    from event_archive.sources.source_status import Gap, Lag, SourceStatus


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
    """Next offset of each source, or of each `<source id>/<partition>`."""
    lag: Lag
    gone: tuple[str, ...]
    """Archived files that are not in the landing folder any more."""
    unreadable: tuple[str, ...]
    """Sentences on what of the source can't be read, or contradicts the archive."""
    gaps: tuple[Gap, ...]
    """Events that were gone before they could be archived."""
    notes: tuple[str, ...]
    """Sentences worth knowing: that the source doesn't answer, why it holds events back."""


def stream_status(config: Config, stream: str) -> StreamStatus:
    """Status of one stream; reads no event. A source that doesn't answer is noted, and no error.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the log can't be read.
    """
    snapshot, source = _read(config, stream)
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
        positions=source.positions,
        lag=source.lag,
        gone=source.gone,
        unreadable=source.problems,
        gaps=source.gaps,
        notes=source.notes,
    )


def _read(config: Config, stream: str) -> tuple[Snapshot, SourceStatus]:
    source = config.stream(stream).source
    table = config.table(stream)
    if isinstance(source, FilesSource):
        positions = Positions()
        return read_snapshot(table, on_commit=positions.note), files_status(source, positions)
    from event_archive.sources.kafka.status import TopicHistory, topic_status

    history = TopicHistory(source.topic)
    return read_snapshot(table, on_commit=history.note), topic_status(stream, source, history)


def _bound(files: tuple[DataFile, ...], side: str, name: str) -> str | None:
    """Smallest or largest value of a timestamp column; ISO 8601 in UTC sorts as text does."""
    values = [value for file in files if (value := file.stats[side].get(name)) is not None]
    if not values:
        return None
    return str(min(values) if side == "minValues" else max(values))
