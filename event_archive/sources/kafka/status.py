"""A topic held against the archive; reads no record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.errors import SourceProblem, SourceUnavailable
from event_archive.sources.claims import gaps_of
from event_archive.sources.kafka.plan import less_reason, refuse_another_topic
from event_archive.sources.kafka.positions import Positions
from event_archive.sources.kafka.topic import Topic
from event_archive.sources.source_status import Gap, Lag, SourceStatus

if TYPE_CHECKING:
    from event_archive.archive.log import Commit
    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.topic import TopicState

STATUS_SECONDS = 3.0


class TopicHistory:
    """What the commits say of one topic: positions and gaps; give its `note` to `read_snapshot`."""

    def __init__(self, topic: str) -> None:
        self.positions = Positions(topic)
        self.gaps: list[Gap] = []

    def note(self, commit: Commit) -> None:
        """Takes in the next commit."""
        self.positions.note(commit)
        self.gaps += gaps_of(commit)


def topic_status(stream: str, source: KafkaSource, history: TopicHistory) -> SourceStatus:
    """Status of a topic; says so where the brokers don't answer in time."""
    positions = history.positions
    known = {
        f"{claim.source_id}/{partition}": claim.next_offset
        for partition, claim in sorted(positions.by_partition.items())
    }
    gaps = tuple(history.gaps)
    try:
        state = Topic(source, timeout_seconds=min(STATUS_SECONDS, source.timeout_seconds)).state()
        refuse_another_topic(stream, source, positions, state)
    except SourceUnavailable as error:
        return SourceStatus(known, Lag(), gaps=gaps, notes=(f"The lag is not known: {error}",))
    except SourceProblem as error:
        return SourceStatus(known, Lag(), gaps=gaps, problems=(str(error),))
    return _against(stream, source, positions, state, SourceStatus(known, Lag(), gaps=gaps))


def _against(
    stream: str, source: KafkaSource, positions: Positions, state: TopicState, known: SourceStatus
) -> SourceStatus:
    events = held_back = 0
    problems = []
    notes = []
    for partition, bounds in state.bounds.items():
        claim = positions.by_partition.get(partition)
        if claim is not None and claim.topic_id != state.identity.topic_id:
            claim = None
        place = f"topic {source.topic} partition {partition}"
        if claim is not None and bounds.high < claim.next_offset:
            problems.append(f"{place} {less_reason(stream, partition, claim, bounds)}.")
            continue
        position = max(claim.next_offset if claim else bounds.low, bounds.low)
        events += bounds.high - position
        if claim is not None and bounds.low > claim.next_offset:
            notes.append(
                f"{place}: the broker has deleted offsets {claim.next_offset} to {bounds.low - 1}, which are not archived; the "
                "next ingest records them as a gap."
            )
        behind = bounds.high - max(bounds.stable, position)
        if source.isolation == "read_committed" and behind > 0:
            held_back += behind
            notes.append(
                f"{place}: {behind} offsets from {bounds.stable} on wait for a transaction that is open; they are archived once "
                "it has ended."
            )
    problems += [
        f"topic {source.topic} partition {partition} has no leader at the moment."
        for partition in sorted(set(state.identity.partitions) - set(state.bounds))
    ]
    return SourceStatus(
        known.positions,
        Lag(events=events, held_back=held_back),
        problems=tuple(problems),
        gaps=known.gaps,
        notes=tuple(notes),
    )
