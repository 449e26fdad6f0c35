"""Whether a topic is archived up to a time: its brokers' answers held against the archive's positions.

What doesn't live here: what the archive holds by offset (`event_archive.coverage`).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from event_archive.archive.snapshot import read_snapshot
from event_archive.coverage import table_coverage
from event_archive.sources.kafka.plan import refuse_another_topic
from event_archive.sources.kafka.status import STATUS_SECONDS, TopicHistory
from event_archive.sources.kafka.topic import Topic

if TYPE_CHECKING:
    from event_archive.source_config import KafkaSource
    from event_archive.storage.store import Store

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def missing_until(
    stream: str, source: KafkaSource, table: Store, until: dt.datetime
) -> list[tuple[int, int, int, str]]:
    """Partition, first offset, offset behind the last, and reason of what keeps the archive from being complete."""
    history = TopicHistory(source.topic)
    read_snapshot(table, on_commit=history.note)
    topic = Topic(source, timeout_seconds=min(STATUS_SECONDS, source.timeout_seconds))
    state = topic.state()
    refuse_another_topic(stream, source, history.positions, state)
    reached = topic.offsets_at(state.bounds, (until - _EPOCH) // dt.timedelta(milliseconds=1))
    current = {claim.source_id for claim in history.positions.by_partition.values()}
    missing = [
        (gap.partition, gap.from_offset, gap.to_offset, "were gone before they could be read")
        for gap in history.gaps
        if gap.source_id in current and gap.from_offset < (reached.get(gap.partition) or gap.to_offset)
    ]
    missing += [
        (partition, 0, 0, "are not known: the partition has no leader at the moment")
        for partition in sorted(set(state.identity.partitions) - set(state.bounds))
    ]
    begins = {
        (p.source_id, p.partition): p.intervals[0].first
        for p in table_coverage(table, stream).partitions
        if p.intervals
    }
    for partition, bounds in sorted(state.bounds.items()):
        offset = reached.get(partition)
        needed = bounds.high if offset is None else offset
        claim = history.positions.by_partition.get(partition)
        if claim is not None and claim.topic_id != state.identity.topic_id:
            claim = None
        if claim is None:
            position = first = bounds.low
        else:
            position = claim.next_offset
            first = begins.get((claim.source_id, partition), position)
            if bounds.high < position:
                missing.append(
                    (partition, bounds.high, position, "are archived, but the broker has lost them")
                )
        if bounds.low < min(first, needed):
            missing.append(
                (partition, bounds.low, min(first, needed), "lie before where the archive began (start_at)")
            )
        if position < needed:
            is_held = source.isolation == "read_committed" and position >= bounds.stable
            reason = "wait for an open transaction" if is_held else "are not archived yet"
            missing.append((partition, position, needed, reason))
    return missing
