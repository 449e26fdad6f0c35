"""What can be said of a stream's source without reading its events: where the archive stands, and what lies beyond."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lag:
    """What the source has and the archive hasn't."""

    files: int = 0
    """Files that are new or look otherwise than when they were archived."""
    bytes: int = 0
    """Their size on the disk, less what is archived of those that have grown and aren't compressed."""
    events: int | None = None
    """Offsets of a topic that wait (holes among them can't be told); None for files, and if the brokers don't answer."""
    held_back: int = 0
    """How many of them wait for an open transaction to end."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that were gone before they could be archived."""

    source_id: str
    partition: int
    from_offset: int
    to_offset: int
    """The first offset that was there again."""
    found_at: str
    """ISO 8601 in UTC."""
    reason: str

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"{self.source_id} partition {self.partition}: offsets {self.from_offset} to {self.to_offset - 1} are a gap, found "
            f"{self.found_at}: {self.reason}."
        )


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A stream's source as it is now, held against the archive."""

    positions: dict[str, int]
    """Next offset of each source, or of each `<source id>/<partition>`."""
    lag: Lag
    gone: tuple[str, ...] = ()
    """Archived files that are not in the landing folder any more."""
    problems: tuple[str, ...] = ()
    """Sentences on what can't be read, or contradicts the archive."""
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences worth knowing: that the source doesn't answer, why it holds events back."""
