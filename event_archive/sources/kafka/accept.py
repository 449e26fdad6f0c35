"""The operator's decision about a topic that is not any more what was archived of it.

What doesn't live here: finding that out (`plan` and `reading` do, and ask for this).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np

from event_archive.archive.commit import Batch, Head, commit
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import CommitConflict, SourceProblem, UsageError
from event_archive.sources.kafka.plan import make_plan, refuse_another_topic
from event_archive.sources.kafka.positions import (
    PartitionClaim,
    Positions,
    decode_source_id,
    encode_claims,
    encode_source_id,
)
from event_archive.sources.kafka.reading import Reader
from event_archive.sources.kafka.topic import Topic

if TYPE_CHECKING:
    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.topic import TopicState
    from event_archive.storage.store import Store

REASON = "accepted as a new generation"


def accept_topic(stream: str, source: KafkaSource, table: Store, partition: int | None) -> None:
    """Accepts a topic that was made anew, or one partition that has lost events, as a new generation.

    What the archive has of the old one stays as it is; the next ingest archives the new one from its beginning.

    Raises:
        UsageError: there is nothing to accept.
        SourceUnavailable: the brokers don't answer.
    """
    while True:
        try:
            _accept(stream, source, table, partition)
        except CommitConflict:
            continue  # an ingest was faster; what it did may have changed the question
        return


def _accept(stream: str, source: KafkaSource, table: Store, partition: int | None) -> None:
    positions = Positions(source.topic)
    snapshot = read_snapshot(table, on_commit=positions.note)
    if not positions.by_partition:
        raise UsageError(
            f"{stream}: nothing of topic {source.topic} is archived yet; `event-archive ingest {stream}` does that."
        )
    topic = Topic(source)
    state = topic.state()
    if _is_another_topic(stream, source, positions, state):
        if partition is not None:
            raise UsageError(
                f"{stream}: topic {source.topic} was made anew; accept it as a whole, without --partition."
            )
        accepted = list(state.bounds)
        generation = positions.generation + 1
    else:
        accepted = [_lost(stream, topic, positions, state, partition)]
        claim = positions.by_partition[accepted[0]]
        generation = decode_source_id(claim.source_id)[2] + 1
    source_id = encode_source_id(state.identity.cluster_id, source.topic, generation)
    claims = [
        PartitionClaim(
            source_id,
            state.identity.topic_id,
            number,
            first_offset=state.bounds[number].low,
            next_offset=state.bounds[number].low,
            runs=np.empty((0, 2), np.int64),
        )
        for number in accepted
    ]
    batch = Batch(None, 0, encode_claims(claims), {})
    commit(table, Head(snapshot.version, snapshot.chain_hash), batch, ingested_at=dt.datetime.now(dt.UTC))


def _is_another_topic(stream: str, source: KafkaSource, positions: Positions, state: TopicState) -> bool:
    try:
        refuse_another_topic(stream, source, positions, state)
    except SourceProblem:
        return True
    return False


def _lost(stream: str, topic: Topic, positions: Positions, state: TopicState, partition: int | None) -> int:
    """The partition to be accepted, once it's proved that there is something to accept about it."""
    if partition is None:
        raise UsageError(
            f"{stream}: topic {topic.source.topic} is the archived one; name the partition that has lost events: --partition N."
        )
    if partition not in positions.by_partition or partition not in state.bounds:
        raise UsageError(f"{stream}: partition {partition} is not archived, or not there now.")
    plan = make_plan(stream, topic, positions, state)
    if any(halted.partition == partition for halted in plan.halted):
        return partition
    start = plan.starts[partition]
    if start.is_anchor_there:
        for block in Reader(stream, topic.source, {partition: start}).blocks(lambda: False, None):
            if block.failure is not None:
                raise block.failure
            if any(halted.is_contradiction for halted in block.halted):
                return partition
            if len(block.offsets) or block.ends or block.is_last:
                break
    raise UsageError(
        f"{stream}: partition {partition} goes on from what is archived, so there is nothing to accept; `ingest` takes what is "
        "new."
    )
