"""What the brokers have of a topic: its identity, its partitions, and from where to where each of them goes.

What doesn't live here: reading its records (`reading`).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from event_archive.errors import SourceUnavailable
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

    from event_archive.source_config import KafkaSource

T = TypeVar("T")

_RETRY_SECONDS = 0.3
_GROUP_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
_LAST_ANSWER_SECONDS = 3.0
_HEARD_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class Identity:
    """Which topic it is."""

    cluster_id: str
    topic_id: str
    partitions: tuple[int, ...]
    led: frozenset[int] = field(default=frozenset(), compare=False)
    """Partitions that have a leader at the moment."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of one partition."""

    low: int
    """Of the oldest event that the broker still has."""
    stable: int
    """Behind the newest event that is no part of an open transaction."""
    high: int
    """Behind the newest event."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as its brokers had it at one moment."""

    identity: Identity
    bounds: dict[int, Bounds]
    """By partition; one that has no leader at the moment is missing."""


class Topic:
    """Questions to the brokers of a topic. Each waits for an answer for `timeout_seconds` at most."""

    def __init__(
        self,
        source: KafkaSource,
        *,
        timeout_seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.source = source
        self._stop = stop or threading.Event()
        self.errors = Errors()
        self._timeout_seconds = source.timeout_seconds if timeout_seconds is None else timeout_seconds
        with kafka_errors(source):
            self._admin = AdminClient(client_properties(source, self.errors))

    def identity(self) -> Identity:
        """Which topic stands under the name now.

        Raises:
            SourceProblem: there is none, or this user may not see it.
            SourceUnavailable: the brokers don't answer.
        """
        name = self.source.topic

        def ask(seconds: float) -> Identity:
            described = self._admin.describe_topics(TopicCollection([name]), request_timeout=seconds)[name]
            cluster = self._admin.describe_cluster(request_timeout=seconds)
            topic = described.result()
            return Identity(
                cluster.result().cluster_id,
                str(topic.topic_id),
                tuple(sorted(partition.id for partition in topic.partitions)),
                frozenset(partition.id for partition in topic.partitions if partition.leader is not None),
            )

        return self._repeat(ask)

    def state(self) -> TopicState:
        """The topic as it is now; see `identity` for errors."""
        identity = self.identity()
        partitions = sorted(identity.led)
        low = self._offsets(partitions, OffsetSpec.earliest())
        # In this order, each is at least as new as the one before, whatever is written meanwhile.
        stable = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        high = self._offsets(partitions, OffsetSpec.latest())
        bounds = {
            p: Bounds(low[p], stable[p], high[p])
            for p in identity.partitions
            if p in low and p in stable and p in high
        }
        return TopicState(identity, bounds)

    def offsets_at(self, partitions: Iterable[int], timestamp_ms: int) -> dict[int, int | None]:
        """First offset of each partition whose timestamp is this or a later one, None where there is none."""
        found = self._offsets(
            partitions, OffsetSpec.for_timestamp(max(timestamp_ms, 0))
        )  # below 0 they mean other things
        return {partition: None if offset < 0 else offset for partition, offset in found.items()}

    def write_group_offsets(self, group: str, offsets: Mapping[int, int]) -> str | None:
        """Writes positions where lag monitors look for them; None if it worked, else why not."""
        request = ConsumerGroupTopicPartitions(
            group, [TopicPartition(self.source.topic, p, offset) for p, offset in offsets.items()]
        )
        try:
            (written,) = self._admin.alter_consumer_group_offsets(
                [request], request_timeout=_GROUP_SECONDS
            ).values()
            failed = [tp.error for tp in written.result().topic_partitions if tp.error]
        except KafkaException as exception:
            failed = [exception.args[0]]
        return failed[0].str() if failed else None

    def _offsets(
        self,
        partitions: Iterable[int],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        found: dict[int, int] = {}

        def ask(seconds: float) -> dict[int, int]:
            asked = {TopicPartition(self.source.topic, p): spec for p in partitions if p not in found}
            answers: dict[TopicPartition, Future[Any]] = {}
            if asked:
                answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=seconds)
            failure: KafkaException | None = None
            for asked_for, answer in answers.items():
                try:
                    offset = answer.result().offset
                except KafkaException as exception:
                    failure = exception
                    continue
                if offset == OFFSET_INVALID:  # the client's way of having no answer, of a broker that starts
                    failure = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
                else:
                    found[asked_for.partition] = offset
            if failure is not None:
                raise failure
            return found

        try:
            return self._repeat(ask)
        except SourceUnavailable:
            if found:  # some partitions have no leader; the others can be read
                return found
            raise

    def _hear(self) -> None:
        """Lets the client tell of broken connections: they say why there was no answer."""
        for _ in range(_HEARD_AT_MOST):
            if not self._admin.poll(0):
                return

    def _repeat(self, ask: Callable[[float], T]) -> T:
        """Asks until there is an answer: a broker that has just been restarted gives none for a while."""
        until = time.monotonic() + self._timeout_seconds
        while True:
            is_stopped = self._stop.is_set()
            left = min(
                until - time.monotonic(), _LAST_ANSWER_SECONDS if is_stopped else self._timeout_seconds
            )
            try:
                with kafka_errors(self.source, self.errors):
                    try:
                        answer = ask(min(max(left, 0.1), _ANSWER_SECONDS))
                    except KafkaException:
                        self._hear()
                        raise
                    self.errors.newest = None  # what went wrong before is over
                    return answer
            except SourceUnavailable:
                if left <= _RETRY_SECONDS or is_stopped:
                    raise
                self._stop.wait(_RETRY_SECONDS)
