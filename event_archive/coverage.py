"""What of each source is archived without a break, what are known holes, and what is gone: the fold of all claims.

What doesn't live here: proof that the files still hold it (`verify`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from event_archive.archive.history import iter_commits
from event_archive.errors import UsageError
from event_archive.source_config import KafkaSource
from event_archive.sources.claims import gaps_of, spans
from event_archive.sources.kafka.positions import join_runs

if TYPE_CHECKING:
    import numpy.typing as npt

    from event_archive.config import Config
    from event_archive.sources.claims import Span
    from event_archive.sources.source_status import Gap
    from event_archive.storage.store import Store


@dataclass(frozen=True, slots=True)
class Interval:
    """Offsets from `first` up to, not including, `next`."""

    first: int
    next: int


@dataclass(frozen=True, slots=True)
class PartitionCoverage:
    """What is archived of one partition of a source."""

    source_id: str
    partition: int
    events: int
    intervals: tuple[Interval, ...]
    """Read without a break: each offset in them is archived, or is a known hole."""
    hole_offsets: int
    """How many offsets are known holes: read across, and no event was there (compaction, transactions)."""
    holes: tuple[Interval, ...]
    gaps: tuple[Gap, ...]
    """Events that were gone before they could be read."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is archived of one stream."""

    stream: str
    version: int
    partitions: tuple[PartitionCoverage, ...]

    @property
    def has_gaps(self) -> bool:
        """Whether any event was gone before it could be read."""
        return any(partition.gaps for partition in self.partitions)


@dataclass(frozen=True, slots=True)
class Missing:
    """Offsets of one partition that keep the archive from being complete up to a time."""

    partition: int
    first: int
    next: int
    reason: str


@dataclass(frozen=True, slots=True)
class Completeness:
    """The answer to: is everything up to a time in?"""

    until: str
    is_complete: bool
    missing: tuple[Missing, ...]

    def __str__(self) -> str:
        """One line."""
        if self.is_complete:
            return f"Everything up to {self.until} is in."
        first = self.missing[0]
        more = f" (and {len(self.missing) - 1} more)" if len(self.missing) > 1 else ""
        return (
            f"Not everything up to {self.until} is in: offsets {first.first} to {first.next - 1} of partition {first.partition} "
            f"{first.reason}{more}."
        )


class _Partition:
    def __init__(self) -> None:
        self.runs: list[npt.NDArray[np.int64]] = []
        self.intervals: list[list[int]] = []
        self.gaps: list[Gap] = []

    def add(self, span: Span) -> None:
        if span.first_offset == span.next_offset:
            return
        if self.intervals and self.intervals[-1][1] == span.first_offset:
            self.intervals[-1][1] = span.next_offset
        else:
            self.intervals.append([span.first_offset, span.next_offset])
        self.runs.append(span.runs)

    def coverage(self, source_id: str, partition: int) -> PartitionCoverage:
        runs = join_runs(self.runs)
        runs = runs[runs[:, 1] > 0]
        holes = [hole for first, after in self.intervals for hole in _holes(runs, first, after)]
        return PartitionCoverage(
            source_id,
            partition,
            events=int(runs[:, 1].sum()),
            intervals=tuple(Interval(*interval) for interval in self.intervals),
            hole_offsets=sum(hole.next - hole.first for hole in holes),
            holes=tuple(holes),
            gaps=tuple(self.gaps),
        )


def stream_coverage(config: Config, stream: str) -> Coverage:
    """What is archived of `stream`, from its log alone.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the log can't be read.
    """
    config.stream(stream)
    return table_coverage(config.table(stream), stream)


def table_coverage(table: Store, stream: str) -> Coverage:
    """What is archived in a table; see `stream_coverage`."""
    partitions: dict[tuple[str, int], _Partition] = {}
    version = -1
    for commit in iter_commits(table):
        version = commit.version
        for span in spans(commit.claims):
            key = (span.source_id, span.partition)
            partitions.setdefault(key, _Partition()).add(span)
        for gap in gaps_of(commit):
            partitions[gap.source_id, gap.partition].gaps.append(gap)
    return Coverage(stream, version, tuple(found.coverage(*key) for key, found in sorted(partitions.items())))


def complete_until(config: Config, coverage: Coverage, until: dt.datetime) -> Completeness:
    """Whether everything up to `until` is archived of a stream whose source is a topic.

    Each partition's broker names the first event of that time or a later one (`offsets_for_times`): the archive must have
    come as far as that, or to the end where there is none. Events that are written later with an earlier time than the ones
    before them can't be foreseen.

    Raises:
        UsageError: the source is no topic.
        SourceUnavailable: the brokers don't answer.
        SourceProblem: the topic can't be read, or isn't the archived one.
    """
    source = config.stream(coverage.stream).source
    if until > dt.datetime.now(dt.UTC):
        raise UsageError(f"{until.isoformat()} lies in the future: what is still to come can't be known.")
    if not isinstance(source, KafkaSource):
        raise UsageError(
            f"{coverage.stream}: --until needs a source that knows the time of its events; a landing folder doesn't."
        )
    from event_archive.sources.kafka.until import missing_until

    missing = missing_until(coverage.stream, source, config.table(coverage.stream), until)
    return Completeness(
        until.isoformat(),
        is_complete=not missing,
        missing=tuple(Missing(*item) for item in missing),
    )


def _holes(runs: npt.NDArray[np.int64], first: int, after: int) -> list[Interval]:
    """What of the offsets from `first` up to `after` lies in no run."""
    starts, ends = runs[:, 0], runs.sum(axis=1)
    inside = (starts >= first) & (ends <= after)
    begins = np.concatenate([[first], ends[inside]])
    stops = np.concatenate([starts[inside], [after]])
    return [Interval(a, b) for a, b in zip(begins.tolist(), stops.tolist(), strict=True) if b > a]
