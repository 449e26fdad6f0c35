"""A topic read back by a consumer of its own, and held against the archive: per partition, the same events in the same order.

What doesn't live here: what a digest is made of (`digests`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from event_archive.cycle_collector import without_cycle_collector
from event_archive.replay.committed import read_committed
from event_archive.replay.digests import DIGESTED_COLUMNS, NO_EVENTS, Digests, PartitionDigest
from event_archive.replay.target import TargetTopic
from event_archive.sources.kafka.records import partitions_of, record_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.replay.topic import TopicWriter


@dataclass(frozen=True, slots=True)
class PartitionCheck:
    """One partition of the topic."""

    partition: int
    archived: PartitionDigest
    found: PartitionDigest

    @property
    def is_equal(self) -> bool:
        """Whether the topic has the same events in the same order."""
        return self.archived == self.found


def check_topic(
    writer: TopicWriter, on_progress: Callable[[int, int], None] | None = None
) -> tuple[PartitionCheck, ...]:
    """Reads the topic from its beginning and compares; nothing is written.

    Args:
        writer: the replay whose events the topic should hold.
        on_progress: called with events read, here and there, and events to read.

    Raises:
        SourceUnavailable: the brokers don't answer.
    """
    total = 2 * writer.archived.events_before(writer.archived.end)
    done = [0, 0]

    def show(side: int, events: int) -> None:
        done[side] += events
        if on_progress is not None:
            on_progress(min(sum(done), total), total)

    with without_cycle_collector(), ThreadPoolExecutor(1) as beside:
        archived = beside.submit(_archived, writer, lambda events: show(0, events))
        found = _found(writer, lambda events: show(1, events))
        ours = archived.result()
    return tuple(
        PartitionCheck(p, ours.get(p, NO_EVENTS), found.get(p, NO_EVENTS)) for p in sorted({*ours, *found})
    )


def _archived(writer: TopicWriter, show: Callable[[int], None]) -> dict[int, PartitionDigest]:
    digests = Digests()
    for block in writer.archived.blocks(DIGESTED_COLUMNS):
        events = block.events
        if events.num_rows:
            digests.add(writer.route.partitions(events), writer.route.timestamps_ms(events), events)
        show(block.row_count)
    return digests.result()


def _found(writer: TopicWriter, show: Callable[[int], None]) -> dict[int, PartitionDigest]:
    digests = Digests()
    for messages in read_committed(TargetTopic(writer.target)):
        columns, _ = record_columns(messages)
        stamps = columns["timestamp_ms"].fill_null(-1).to_numpy(zero_copy_only=False)
        table = pa.table({name: columns[name] for name in DIGESTED_COLUMNS[1:]})
        digests.add(partitions_of(messages), stamps, table)
        show(len(messages))
    return digests.result()
