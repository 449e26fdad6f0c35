"""Where reading a topic begins: the archive's positions held against what the brokers have.

What doesn't live here: asking the brokers (`topic`), and reading (`reading`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.errors import SourceProblem
from event_archive.sources.kafka.positions import NO_OFFSET, decode_source_id, encode_source_id

if TYPE_CHECKING:
    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.positions import PartitionClaim, Positions
    from event_archive.sources.kafka.topic import Bounds, Topic, TopicState

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
RETENTION = "the broker had deleted these offsets before they were read"


@dataclass(frozen=True, slots=True)
class Start:
    """How one partition is read."""

    partition: int
    source_id: str
    position: int
    """The first offset that isn't archived."""
    target: int
    """Reading up to here takes all that is there now."""
    is_new: bool = False
    """Whether nothing was claimed of the partition before."""
    gap_from: int | None = None
    """First offset that is gone, if the position had to be moved up to what the broker still has."""
    anchor_offset: int = NO_OFFSET
    """The newest archived event: read again first, to see that the broker still has the same events."""
    anchor_digest: str = ""
    is_anchor_there: bool = False
    """Whether the broker can still have it."""

    @property
    def read_from(self) -> int:
        """Offset from which the broker is asked."""
        return self.anchor_offset if self.is_anchor_there else self.position


@dataclass(frozen=True, slots=True)
class Halted:
    """A partition that isn't read, since what the broker has contradicts what is archived."""

    partition: int
    reason: str
    is_contradiction: bool = True
    """Whether the broker has other events, which an operator may accept; else it can't give those that it has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a topic is read."""

    starts: dict[int, Start]
    halted: tuple[Halted, ...]
    waiting: tuple[int, ...] = ()
    """Partitions that stand behind the beginning of an open transaction, from where the broker gives nothing yet."""


def refuse_another_topic(stream: str, source: KafkaSource, positions: Positions, state: TopicState) -> None:
    """Refuses a topic that has only its name in common with the archived one.

    Raises:
        SourceProblem: its id is another one.
    """
    newest = [c for c in positions.by_partition.values() if _generation(c) == positions.generation]
    for claim in newest:
        if claim.topic_id != state.identity.topic_id:
            raise SourceProblem(
                f"topic {source.topic} at {source.brokers} is not the one that is archived: it was made anew (its id is "
                f"{state.identity.topic_id}, the archived one's {claim.topic_id}). Nothing was read. If that is as it should be, "
                f"`event-archive sources accept {stream}` archives it from its beginning as a new generation."
            )


def make_plan(stream: str, topic: Topic, positions: Positions, state: TopicState) -> Plan:
    """Decides for each partition where it goes on, and which ones must not be read.

    Raises:
        SourceProblem: the topic isn't the archived one.
    """
    source = topic.source
    refuse_another_topic(stream, source, positions, state)
    is_first = not positions.by_partition
    generation = min(
        (_generation(c) for c in positions.by_partition.values() if c.topic_id == state.identity.topic_id),
        default=1,
    )
    first_offsets = _first_offsets(topic, state) if is_first else {}
    starts = {}
    halted = []
    waiting = []
    for partition, bounds in state.bounds.items():
        claim = positions.by_partition.get(partition)
        if claim is not None and claim.topic_id != state.identity.topic_id:
            claim = None  # of a topic before this one, which had more partitions when this one was accepted
        target = bounds.high if source.isolation == "read_uncommitted" else bounds.stable
        if claim is None:
            first = first_offsets.get(partition, bounds.low)
            if first > bounds.high:
                raise SourceProblem(
                    f"topic {source.topic} partition {partition}: start_at names offset {first}, but the partition ends at "
                    f"{bounds.high}."
                )
            source_id = encode_source_id(state.identity.cluster_id, source.topic, generation)
            starts[partition] = Start(
                partition,
                source_id,
                max(first, bounds.low),
                target,
                is_new=True,
                gap_from=first if first < bounds.low else None,
            )
        elif bounds.high < claim.next_offset:
            halted.append(Halted(partition, less_reason(stream, partition, claim, bounds)))
        else:
            is_gap = bounds.low > claim.next_offset
            starts[partition] = Start(
                partition,
                claim.source_id,
                max(claim.next_offset, bounds.low),
                target,
                gap_from=claim.next_offset if is_gap else None,
                anchor_offset=claim.anchor_offset,
                anchor_digest=claim.anchor_digest,
                is_anchor_there=claim.anchor_offset >= bounds.low,
            )
        if (
            partition in starts
            and source.isolation == "read_committed"
            and starts[partition].read_from > bounds.stable
        ):
            waiting.append(partition)
            if not starts[partition].is_new:
                del starts[partition]
    return Plan(starts, tuple(halted), tuple(waiting))


def less_reason(stream: str, partition: int, claim: PartitionClaim, bounds: Bounds) -> str:
    """Why a partition that has fewer events than the archive isn't read, as a half sentence."""
    return (
        f"ends at offset {bounds.high} at the broker, but is archived up to {claim.next_offset}: the broker has lost events, "
        "or was restored from an old copy. Nothing was overwritten. If that is as it should be, "
        f"`event-archive sources accept {stream} --partition {partition}` archives what it has now as a new generation"
    )


def differs_reason(stream: str, partition: int, offset: int) -> str:
    """Why a partition whose newest archived event is another one at the broker isn't read."""
    return (
        f"has another event at offset {offset} than the one that is archived: the broker has lost events and given their "
        "offsets away again. Nothing was overwritten. If that is as it should be, "
        f"`event-archive sources accept {stream} --partition {partition}` archives what it has now as a new generation"
    )


def _generation(claim: PartitionClaim) -> int:
    return decode_source_id(claim.source_id)[2]


def _first_offsets(topic: Topic, state: TopicState) -> dict[int, int]:
    """Where a topic that was never archived begins, by partition; those that are missing begin at their oldest event."""
    match topic.source.start_at:
        case "latest":
            return {p: bounds.stable for p, bounds in state.bounds.items()}
        case dt.datetime() as time:
            milliseconds = (time - _EPOCH) // dt.timedelta(milliseconds=1)
            found = topic.offsets_at(state.bounds, milliseconds)
            return {p: state.bounds[p].high if offset is None else offset for p, offset in found.items()}
        case dict() as offsets:
            unknown = sorted(set(offsets) - set(state.identity.partitions))
            if unknown:
                raise SourceProblem(
                    f"topic {topic.source.topic} at {topic.source.brokers}: start_at names partition {unknown[0]}, which the "
                    f"topic hasn't; it has {len(state.identity.partitions)}."
                )
            return dict(offsets)
        case _:
            return {}
