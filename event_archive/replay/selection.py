"""Which archived events are replayed: a stretch of time or of positions, of the newest generation or of all.

What doesn't live here: reading them (`events`).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from event_archive.archive.columns import column
from event_archive.errors import UsageError
from event_archive.sources.files import positions as files
from event_archive.sources.kafka import positions as kafka

if TYPE_CHECKING:
    import numpy.typing as npt

    from event_archive.archive.log import Commit

_POSITIONS = re.compile(r"[0-9]+:[0-9]+(,[0-9]+:[0-9]+)*")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NO_END = np.iinfo(np.int64).max

Bound = dt.datetime | dict[int, int] | None
"""A time, an offset per partition, or no bound."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where (inclusive) to where (exclusive) events are replayed."""

    begin: Bound = None
    end: Bound = None
    all_generations: bool = False
    """Whether older generations of a topic or file are replayed too."""

    @property
    def by_position(self) -> bool:
        """Whether a bound names offsets."""
        return isinstance(self.begin, dict) or isinstance(self.end, dict)

    @property
    def by_time(self) -> bool:
        """Whether a bound is a time, which events without one don't meet."""
        return isinstance(self.begin, dt.datetime) or isinstance(self.end, dt.datetime)

    @property
    def is_everything(self) -> bool:
        """Whether nothing bounds it."""
        return self.begin is None and self.end is None

    def __str__(self) -> str:
        """As a person would type it."""
        words = [
            f"--from {_text(self.begin)}" if self.begin is not None else "",
            f"--until {_text(self.end)}" if self.end is not None else "",
            "--all-generations" if self.all_generations else "",
        ]
        return " ".join(filter(None, words)) or "no bounds"


def parse_bound(text: str | None, option: str) -> Bound:
    """A bound as typed: `2026-01-31T00:00:00Z`, or `0:1200,3:7` for an offset per partition.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    if _POSITIONS.fullmatch(text):
        pairs = [tuple(map(int, pair.split(":"))) for pair in text.split(",")]
        offsets = {partition: offset for partition, offset in pairs}  # noqa: C416 - pairs of exactly two
        if len(offsets) < len(pairs) or max(max(pair) for pair in pairs) >= _NO_END:
            raise UsageError(
                f"{option} {text}: names a partition twice, or a number that no offset can have."
            )
        return offsets
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text}: write a time with its zone, like 2026-01-31T00:00:00Z, or an offset per partition, like 0:1200,3:7."
        ) from None
    if time.tzinfo is None:
        raise UsageError(f"{option} {text}: write the time with its zone, for example {text}Z.")
    return time.astimezone(dt.UTC)


def _text(bound: Bound) -> str:
    if isinstance(bound, dict):
        return ",".join(f"{partition}:{offset}" for partition, offset in sorted(bound.items()))
    return bound.isoformat() if bound is not None else ""


class Generations:
    """Which sources belong to the newest generation; give its `note` every commit, in order.

    Of a topic that is the one that was archived last, and of each of its partitions the highest generation; of a file
    that has changed, how it was archived last.
    """

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._topics: dict[str, dict[int, kafka.PartitionClaim]] = {}
        self._topic_ids: dict[str, str] = {}
        self._with_events: dict[str, set[int]] = {}
        self.has_files = False
        self.has_topics = False

    def note(self, commit: Commit) -> None:
        """Takes in the claims of the next commit."""
        for state in files.states(commit.claims):
            self.has_files = True
            self._files[files.decode_source_id(state.source_id)[0]] = state.source_id
            self._with_events.setdefault(state.source_id, {0})
        for claim in kafka.decode_claims(commit.claims):
            self.has_topics = True
            _, topic, _ = kafka.decode_source_id(claim.source_id)
            self._topics.setdefault(topic, {})[claim.partition] = claim
            self._topic_ids[topic] = claim.topic_id
            if claim.records:
                self._with_events.setdefault(claim.source_id, set()).add(claim.partition)

    @property
    def topic_ids(self) -> frozenset[str]:
        """Kafka's ids of the topics that were archived last, one for each name."""
        return frozenset(self._topic_ids.values())

    def newest(self) -> dict[str, frozenset[int]]:
        """Partitions that have events, by source id: the newest generation only."""
        chosen: dict[str, set[int]] = {source_id: {0} for source_id in self._files.values()}
        for topic, claims in self._topics.items():
            for partition, claim in claims.items():
                if claim.topic_id == self._topic_ids[topic]:
                    chosen.setdefault(claim.source_id, set()).add(partition)
        return {
            source_id: frozenset(found)
            for source_id, partitions in chosen.items()
            if (found := partitions & self._with_events.get(source_id, set()))
        }

    def all(self) -> dict[str, frozenset[int]]:
        """The same of every generation."""
        return {source_id: frozenset(partitions) for source_id, partitions in self._with_events.items()}


class Selection:
    """Picks the events to be replayed out of rows of the archive."""

    def __init__(self, bounds: Bounds, generations: Generations) -> None:
        if bounds.by_position and not generations.has_topics:
            raise UsageError(
                "Events of files have no partitions to name: --from and --until can't be positions here."
            )
        if bounds.by_time and not generations.has_topics:
            raise UsageError(
                "Events of files carry no time of their own, so --from and --until would select none."
            )
        if bounds.by_position and bounds.all_generations:
            raise UsageError(
                "Offsets begin anew with each generation: --from and --until can't be positions together with --all-generations."
            )
        self.bounds = bounds
        self.sources = generations.all() if bounds.all_generations else generations.newest()
        """Partitions with events, by source id."""
        self.partitions = sorted({p for partitions in self.sources.values() for p in partitions})
        self.older_events = 0
        """Events of older generations that were left out so far."""
        self.timeless_events = 0
        """Events without a time that were left out so far, since times were asked for."""
        self._whole = {
            source_id
            for source_id, partitions in generations.all().items()
            if partitions == self.sources.get(source_id)
        }
        self._is_all_whole = len(self._whole) == len(generations.all())
        self._lowest = _by_partition(bounds.begin, self.partitions, 0)
        self._highest = _by_partition(bounds.end, self.partitions, _NO_END)

    def pick(self, rows: pa.Table) -> tuple[pa.Table, npt.NDArray[np.bool_] | None]:
        """The rows that are replayed, and which ones they are (None: all of them)."""
        is_chosen = self._of_generation(rows)
        if is_chosen is not None:
            self.older_events += len(is_chosen) - int(is_chosen.sum())
        for is_within in (self._within_times(rows, is_chosen), self._within_positions(rows)):
            if is_within is not None:
                is_chosen = is_within if is_chosen is None else is_chosen & is_within
        if is_chosen is None or is_chosen.all():
            return rows, None
        return rows.take(column(pa.int64(), np.flatnonzero(is_chosen))), is_chosen

    def _of_generation(self, rows: pa.Table) -> npt.NDArray[np.bool_] | None:
        if self._is_all_whole:
            return None
        source = rows["source_id"].combine_chunks()
        names: list[str] = source.dictionary.to_pylist()
        if all(name in self._whole for name in names):
            return None
        indices = source.indices.to_numpy()
        is_whole = np.array([name in self._whole for name in names])
        is_chosen: npt.NDArray[np.bool_] = is_whole[indices]
        partitions = rows["source_partition"].to_numpy()
        for i, name in enumerate(names):
            if name in self.sources and not is_whole[i]:
                is_chosen |= (indices == i) & np.isin(partitions, list(self.sources[name]))
        return is_chosen

    def _within_times(
        self, rows: pa.Table, is_chosen: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.bool_] | None:
        if not self.bounds.by_time:
            return None
        times = rows["event_time"].combine_chunks()
        is_given = times.is_valid().to_numpy(zero_copy_only=False)
        is_within: npt.NDArray[np.bool_] = is_given.copy()
        timeless = ~is_given if is_chosen is None else ~is_given & is_chosen
        self.timeless_events += int(timeless.sum())
        microseconds = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        if isinstance(self.bounds.begin, dt.datetime):
            is_within &= microseconds >= (self.bounds.begin - _EPOCH) // _MICROSECOND
        if isinstance(self.bounds.end, dt.datetime):
            is_within &= microseconds < (self.bounds.end - _EPOCH) // _MICROSECOND
        return is_within

    def _within_positions(self, rows: pa.Table) -> npt.NDArray[np.bool_] | None:
        if not self.bounds.by_position:
            return None
        partitions = rows["source_partition"].to_numpy()
        offsets = rows["source_offset"].to_numpy()
        places = np.minimum(partitions, len(self._lowest) - 1)  # others aren't chosen anyway
        is_within: npt.NDArray[np.bool_] = (offsets >= self._lowest[places]) & (
            offsets < self._highest[places]
        )
        return is_within


def _by_partition(bound: Bound, partitions: list[int], default: int) -> npt.NDArray[np.int64]:
    values = np.full(max(partitions, default=0) + 1, default, np.int64)
    if isinstance(bound, dict):
        unknown = sorted(set(bound) - set(partitions))
        if unknown:
            raise UsageError(f"--from or --until names partition {unknown[0]}, of which nothing is archived.")
        for partition, offset in bound.items():
            values[partition] = offset
    return values
