"""Ingest of a topic: what its partitions hold beyond the archive's positions, committed all together.

Everything between two commits comes from one topic: before each commit the brokers are asked for the topic's id once more,
since ids are never given twice. What doesn't live here: how records are read (`reading`) and where reading begins (`plan`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from event_archive.appending import Appender, Follow, Progress
from event_archive.errors import SourceUnavailable
from event_archive.read_ahead import read_ahead
from event_archive.sources.kafka.batches import BatchBuilder
from event_archive.sources.kafka.plan import Plan, make_plan
from event_archive.sources.kafka.positions import Positions, encode_claims
from event_archive.sources.kafka.reading import Block, Reader
from event_archive.sources.kafka.topic import Topic, TopicState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.positions import PartitionClaim

APPLICATION = "event-archive:kafka:0"
_AHEAD_BYTES = 3 * 2**25  # about what is read while a commit of the default size is written
_SHORTEST_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_QUIET_PASSES = 10
_HALTED_SECONDS = 60.0


def archive_topic(appender: Appender, source: KafkaSource, follow: Follow | None) -> None:
    """Archives what the topic has now, or with `follow` all that comes until that is stopped.

    Raises:
        CommitConflict: another writer was faster; call again.
        SourceProblem: the topic isn't the archived one, or can't be read by this user.
        SourceUnavailable: the brokers don't answer.
    """
    topic = Topic(source, stop=follow.stop if follow else None)
    topic.identity()  # no table is made for a topic that can't be read
    quiet_passes = 0
    while True:
        positions = Positions(source.topic)
        appender.open(positions.note)
        state = topic.state()
        plan = make_plan(appender.stream, topic, positions, state)
        for partition in sorted(set(state.identity.partitions) - set(state.bounds)):
            appender.note_problem(_place(source, partition), "has no leader at the moment, and was not read")
        for halted in plan.halted:
            appender.note_problem(_place(source, halted.partition), halted.reason)
        commits = appender.commits
        is_over = _Pass(appender, topic, state, plan, follow).run()
        if is_over:
            return
        # The broker hasn't any more what it was asked for; if that goes on without a step ahead, slow down, and give up.
        quiet_passes = 0 if appender.commits > commits else quiet_passes + 1
        if follow is None and quiet_passes > _QUIET_PASSES:
            raise SourceUnavailable(
                f"topic {source.topic} at {source.brokers}: the brokers don't give the offsets that they say they have; "
                "what was read until then is archived."
            )
        time.sleep(min(quiet_passes, 10) * 0.2)


def _place(source: KafkaSource, partition: int) -> str:
    return f"topic {source.topic} partition {partition}"


class _Pass:
    """One consumer's work, from the plan that it begins with to its end."""

    def __init__(
        self, appender: Appender, topic: Topic, state: TopicState, plan: Plan, follow: Follow | None
    ) -> None:
        identity = state.identity
        self._appender = appender
        self._topic = topic
        self._identity = identity
        self._unread = set(identity.partitions) - set(state.bounds)
        self._follow = follow
        self._began_at = time.monotonic()
        self._has_halted = bool(plan.halted or plan.waiting)
        self._plan = plan
        self._builder = BatchBuilder(plan.starts, identity.topic_id)
        self._targets = {
            p: start.target
            for p, start in plan.starts.items()
            if start.is_anchor_there or start.target > start.position
        }
        self._advanced_at = time.monotonic()
        self._oldest_pending: float | None = None
        self._committed_at = float("-inf")
        self._looked_at = time.monotonic()
        self._progress = Progress(
            appender.stream,
            total_events=sum(max(s.target - s.position, 0) for s in plan.starts.values()),
        )

    def run(self) -> bool:
        """Reads and commits; False if it must be planned anew, since the topic isn't any more what it was."""
        appender, builder = self._appender, self._builder
        is_over = True
        stop = self._follow.stop if self._follow else None
        if self._plan.starts:
            reader = Reader(appender.stream, self._topic.source, self._plan.starts)
            with read_ahead(
                reader.blocks(self._is_done, stop), limit=_AHEAD_BYTES, size=lambda block: block.size_bytes
            ) as blocks:
                try:
                    is_over = self._commit_all(blocks)
                except BaseException:
                    appender.abandon()
                    raise
        elif self._follow:
            self._follow.stop.wait(_LOOK_SECONDS)
            is_over = self._follow.stop.is_set()
        if builder.has_something:
            is_over &= self._commit()
        return is_over

    def _is_done(self) -> bool:
        """Whether everything is read that was there at the start; called by the reading thread."""
        return self._follow is None and not self._targets

    def _commit_all(self, blocks: Iterator[Block]) -> bool:
        for block in blocks:
            self._take(block)
            if self._is_due() and not self._commit():
                return False
            if block.failure is not None:
                if self._builder.has_something:
                    self._commit()
                raise block.failure
            self._require_advance()
            if block.is_last:
                return False
            if self._follow and time.monotonic() - self._looked_at > _LOOK_SECONDS and self._has_changed():
                return False
        return True

    def _require_advance(self) -> None:
        """Ends an ingest that doesn't follow and waits in vain for some partitions, while others have ever more.

        Raises:
            SourceUnavailable: what was read until then is committed.
        """
        patience = self._topic.source.timeout_seconds
        if self._follow or not self._targets or time.monotonic() - self._advanced_at < patience:
            return
        if self._builder.has_something:
            self._commit()
        partition = min(self._targets)
        raise SourceUnavailable(
            f"topic {self._topic.source.topic} partition {partition}: nothing came for {patience:.0f} s, although there are events "
            f"up to {self._targets[partition]}. What was read of the others is archived."
        )

    def _take(self, block: Block) -> None:
        for halted in block.halted:
            self._appender.note_problem(_place(self._topic.source, halted.partition), halted.reason)
            self._targets.pop(halted.partition, None)
            self._has_halted = True
        self._builder.add(block)
        touched = {*np.unique(block.partitions).tolist(), *block.ends} & self._targets.keys()
        if touched:
            self._advanced_at = time.monotonic()
        for partition in touched:
            if self._builder.positions[partition] >= self._targets[partition]:
                del self._targets[partition]
        if self._oldest_pending is None and self._builder.has_something:
            self._oldest_pending = time.monotonic()
        progress = self._progress
        progress.events = self._appender.events + self._builder.pending_rows
        progress.bytes += block.size_bytes
        self._appender.show(progress)

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._builder.pending_bytes >= self._appender.settings.commit_bytes:
            return self._follow is None or now - self._committed_at >= _SHORTEST_SECONDS
        if self._follow is None or self._oldest_pending is None:
            return False
        latency = max(self._follow.max_latency_seconds, _SHORTEST_SECONDS)
        return now - self._oldest_pending >= latency and now - self._committed_at >= _SHORTEST_SECONDS

    def _commit(self) -> bool:
        """Commits what was collected; False if the topic isn't any more the one that the plan was made for."""
        if not self._is_same_topic():
            return False
        claims = self._builder.take_claims()
        for rows, value_bytes in self._builder.take_row_groups():
            self._appender.write_rows(rows, value_bytes)
            del rows  # else two row groups are held while the next one is made
        self._appender.commit(encode_claims(claims), application=APPLICATION)
        self._builder.committed()
        self._oldest_pending = None
        self._committed_at = time.monotonic()
        self._progress.commits = self._appender.commits
        self._appender.show(self._progress)
        for claim in claims:
            if claim.gap_from is not None:
                self._appender.warn(
                    f"{self._appender.stream}: {_place(self._topic.source, claim.partition)}: offsets {claim.gap_from} to "
                    f"{claim.first_offset - 1} are a gap: {claim.gap_reason}."
                )
        self._tell_group(claims)
        return True

    def _tell_group(self, claims: list[PartitionClaim]) -> None:
        """Writes the positions where lag monitors look for them."""
        group = self._topic.source.group or f"event-archive-{self._appender.stream}"
        failure = self._topic.write_group_offsets(group, {c.partition: c.next_offset for c in claims})
        if failure:
            self._appender.warn(
                f"{self._appender.stream}: the positions could not be written to the consumer group {group} ({failure}); "
                "nothing depends on them but lag monitors."
            )

    def _is_same_topic(self) -> bool:
        now = self._topic.identity()
        return (now.cluster_id, now.topic_id) == (self._identity.cluster_id, self._identity.topic_id)

    def _has_changed(self) -> bool:
        """Whether the topic has other partitions, one that wasn't read may be readable again, or it is another topic."""
        self._looked_at = time.monotonic()
        now = self._topic.identity()
        if self._looked_at - self._began_at > _HALTED_SECONDS:
            self._began_at = self._looked_at
            bounds = self._topic.state().bounds
            if self._has_halted or any(
                p in bounds and bounds[p].high < position for p, position in self._builder.positions.items()
            ):
                return True
        return now != self._identity or not self._unread.isdisjoint(now.led)
