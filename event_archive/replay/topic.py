"""Archived events into a Kafka topic: same partition, key, value, headers and timestamp, in order, and each exactly once.

Each transaction brings events and the position behind them (`progress`). The transactional id follows from the table and
the topic: of any number of replays of a stream to a topic, the one that began last goes on, and the brokers refuse the
others. Readers of the topic must not look at aborted transactions (`isolation.level=read_committed`).

What doesn't live here: reading the topic back (`check`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from event_archive.cycle_collector import without_cycle_collector
from event_archive.errors import SourceUnavailable, UsageError
from event_archive.read_ahead import read_ahead
from event_archive.replay.digests import DIGESTED_COLUMNS
from event_archive.replay.pace import Pace
from event_archive.replay.progress import NOTHING_YET, TOPIC, Progress, ProgressTopic, Run
from event_archive.replay.routing import Mapping, Route
from event_archive.replay.target import (
    TargetTopic,
    as_ours,
    check_settings,
    name_of,
    target_errors,
)
from event_archive.sources.kafka.connection import Errors, client_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from event_archive.replay.events import ArchivedEvents, Block
    from event_archive.source_config import KafkaSource

EVENTS_A_TRANSACTION = 100_000
BYTES_A_TRANSACTION = 64 * 2**20
SECONDS_A_TRANSACTION = 1.0
_TRANSACTION_TIMEOUT_SECONDS = 60
_QUEUE_SECONDS = 0.1
_ABORT_SECONDS = 5.0
_BATCH_BYTES = 1_000_000
_BLOCKS_AHEAD = 4
_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = (
    False  # what a client has to say comes as errors; of fatal ones librdkafka writes on stderr otherwise
)


@dataclass(frozen=True, slots=True)
class Options:
    """How events are written."""

    mapping: Mapping = Mapping.same
    events_per_second: float | None = None
    zero_timestamp_ms: int | None = None
    """Written instead of a timestamp of 0, which librdkafka takes for "now"."""
    append: bool = False
    """Write although the topic holds events that this replay hasn't written."""


@dataclass(frozen=True, slots=True)
class TopicReplay:
    """What a replay to a topic did."""

    stream: str
    target: str
    events: int
    """Events written now."""
    events_before: int
    """Events that earlier runs of this replay had written."""
    transactions: int
    seconds: float
    version: int
    """Version of the archive up to which it has come."""
    older_generations: int
    """Events left out since they belong to older generations."""
    timeless: int
    """Events left out since they have no time, and times were asked for."""
    warnings: tuple[str, ...]


class TopicWriter:
    """One replay of a stream to a topic."""

    def __init__(self, stream: str, archived: ArchivedEvents, target: KafkaSource, options: Options) -> None:
        self.archived = archived
        self.target = target
        self._stream = stream
        self._options = options
        self._errors = Errors()
        self._refused: list[KafkaError] = []
        self._topic = TargetTopic(target)
        partition_count, self._topic_id = self._topic.require()
        self.route = Route(options.mapping, partition_count, options.zero_timestamp_ms)
        settings = self._topic.settings()
        self.warnings = check_settings(target, settings, archived)
        self._require_partitions()
        self.run = Run(
            table_id=archived.table_id,
            topic_id=self._topic_id,
            bounds=str(archived.selection.bounds),
            mapping=str(options.mapping) + (f":{partition_count}" if options.mapping == Mapping.hash else ""),
            zero_timestamp_ms=options.zero_timestamp_ms,
            sources=tuple(sorted(archived.selection.sources)) if archived.generations.has_topics else (),
        )
        self._progress_topic = ProgressTopic(target)
        self._progress = NOTHING_YET
        self._events = self._transactions = 0
        self._pending = self._pending_bytes = 0
        self._begun_at = 0.0
        self._pace = Pace(options.events_per_second)
        self._producer = self._new_producer(settings)

    def _require_partitions(self) -> None:
        last = max(self.archived.selection.partitions, default=0)
        if self._options.mapping == Mapping.hash or last < self.route.partition_count:
            return
        raise UsageError(
            f"{name_of(self.target)}: this topic has {self.route.partition_count} partitions, and archived events belong to partition {last}. "
            f"Give it {last + 1} partitions (kafka-topics --alter --topic {self.target.topic} --partitions {last + 1}), or let keys decide "
            "anew which partition an event goes to: --map-partitions hash."
        )

    def _new_producer(self, settings: dict[str, str]) -> Producer:
        largest = settings.get("max.message.bytes", "")
        batch_bytes = min(_BATCH_BYTES, int(largest)) if largest.isdigit() else _BATCH_BYTES
        identity = f"{self.run.table_id}/{self.target.topic}"
        with target_errors(self.target, self._errors):
            return Producer(
                client_properties(
                    self.target,
                    self._errors,
                    transactional_id=f"event-archive-replay-{hashlib.sha256(identity.encode()).hexdigest()[:32]}",
                    transaction_timeout_ms=_TRANSACTION_TIMEOUT_SECONDS * 1000,
                    compression_type="lz4",
                    linger_ms=20,
                    batch_size=max(batch_bytes, 1),
                    batch_num_messages=100_000,
                    message_max_bytes=1_000_000_000,  # the brokers decide
                    queue_buffering_max_messages=2 * EVENTS_A_TRANSACTION,
                    queue_buffering_max_kbytes=2_097_151,  # a transaction is smaller, but an event may be large
                )
                | {"on_delivery": self._note_delivery, "delivery.report.only.error": True, "logger": _LOGGER}
            )

    def _note_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and error.code() != KafkaError._PURGE_QUEUE:  # noqa: SLF001 - its public name
            self._refused.append(error)

    def write(self, on_progress: Callable[[int, int], None] | None = None) -> TopicReplay:
        """Writes what isn't written yet.

        Args:
            on_progress: called with events looked at and events to look at.

        Raises:
            CommitConflict: another replay of the stream to the topic has taken over.
            UsageError: the topic holds events that this replay hasn't written, or an event can't be written as it is.
            StorageError: the brokers refuse an event.
            SourceUnavailable: they don't answer; run again to go on.
        """
        started = time.monotonic()
        self._progress_topic.prepare()
        with target_errors(self.target, self._errors):
            # Ends what an earlier process has begun, and has the brokers refuse it from here on.
            self._producer.init_transactions(self.target.timeout_seconds)
        before, others = self._progress_topic.read(self.run, self.archived)
        if before is None:
            self._require_empty(others)
        self._progress = before or NOTHING_YET
        total = self.archived.events_before(self.archived.end) - self.archived.events_before(
            self._progress.position
        )
        done = 0
        blocks = self.archived.blocks(
            DIGESTED_COLUMNS, begin=self._progress.position, rows_a_block=self._pace.rows_a_block
        )
        try:
            with without_cycle_collector(), read_ahead(blocks, limit=_BLOCKS_AHEAD) as ahead:
                for block in ahead:
                    self._take(block)
                    done += block.row_count
                    if on_progress is not None:
                        on_progress(done, total)
            self._commit()
        except BaseException:
            with contextlib.suppress(KafkaException):
                self._producer.abort_transaction(_ABORT_SECONDS)
            raise
        selection = self.archived.selection
        return TopicReplay(
            stream=self._stream,
            target=name_of(self.target),
            events=self._events,
            events_before=before.events if before else 0,
            transactions=self._transactions,
            seconds=time.monotonic() - started,
            version=self.archived.end.commit,
            older_generations=selection.older_events,
            timeless=selection.timeless_events,
            warnings=tuple(self.warnings),
        )

    def _require_empty(self, others: list[str]) -> None:
        """Events that are there already might be the very ones that would be written."""
        if self._options.append:
            return
        if self._topic_id in self.archived.generations.topic_ids:
            raise UsageError(
                f"{name_of(self.target)}: this is the topic that the stream comes from, and the next ingest would archive its own "
                "events once more. Name another topic; or, if that is as it should be, add --append."
            )
        if not self._topic.holds_events():
            return
        known = f" (replays of this stream with {'; '.join(sorted(set(others)))})" if others else ""
        raise UsageError(
            f"{name_of(self.target)}: this topic holds events that this replay has not written{known}. Name an empty topic; or, if "
            "what is there may stay and events may come twice, add --append."
        )

    def _take(self, block: Block) -> None:
        if block.events.num_rows:
            wait_seconds = self._pace.wait_seconds(block.events.num_rows)
            if wait_seconds >= SECONDS_A_TRANSACTION:
                self._commit()  # readers get what is there, and no transaction stays open for long
            time.sleep(wait_seconds)
            if not self._pending:
                self._begin()
            with self._failures():
                self._produce(block.events)
        self._progress = Progress(block.after, self._progress.events + block.events.num_rows)
        if self._pending and self._is_due():
            self._commit()

    def _is_due(self) -> bool:
        return (
            self._pending >= EVENTS_A_TRANSACTION
            or self._pending_bytes >= BYTES_A_TRANSACTION
            or time.monotonic() - self._begun_at >= SECONDS_A_TRANSACTION
        )

    def _begin(self) -> None:
        with self._failures():
            self._producer.begin_transaction()
        self._begun_at = time.monotonic()

    def _produce(self, events: pa.Table) -> None:
        produce, topic = self._producer.produce, self.target.topic
        stamps, partitions = self.route.timestamps_ms(events), self.route.partitions(events)
        values, keys = events["value"].to_pylist(), events["key"].to_pylist()
        for value, key, partition, stamp, headers in zip(
            values, keys, partitions.tolist(), stamps.tolist(), header_lists(events), strict=True
        ):
            while True:
                try:
                    produce(topic, value, key, partition, timestamp=stamp, headers=headers)
                except BufferError:
                    self._producer.poll(_QUEUE_SECONDS)
                else:
                    break
        self._pending += len(values)
        self._pending_bytes += events.nbytes
        self._producer.poll(0)

    def _commit(self) -> None:
        """Commits the open transaction, if there is one, together with the position behind it."""
        if not self._pending:
            return
        if self._topic.identity().topic_id != self._topic_id:
            raise UsageError(
                f"{name_of(self.target)}: the topic was deleted and made anew while events were written to it. Run the command again."
            )
        record = ProgressTopic.encode(
            self.run, self._stream, self.target.topic, self._progress, self.archived
        )
        with self._failures():
            self._producer.produce(TOPIC, record, self.run.key, 0)
            self._producer.commit_transaction(2 * _TRANSACTION_TIMEOUT_SECONDS)
        self._transactions += 1
        self._events += self._pending
        self._pending = self._pending_bytes = 0

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Tells why a transaction can't go on: what the client says last is often only that something was said before."""
        try:
            yield
        except KafkaException as exception:
            told = [exception.args[0]]
            try:
                self._producer.poll(0)
            except KafkaException as more:
                told.append(more.args[0])
            reasons = [*self._refused, *told, *filter(None, [self._errors.newest])]
            for reason in reasons:
                if ours := as_ours(self.target, reason):
                    raise ours from None
            raise SourceUnavailable(
                f"{name_of(self.target)}: {reasons[0].str()}. What was not committed is not visible to readers; run the command "
                "again, and it goes on where it ended."
            ) from None


def header_lists(events: pa.Table) -> Iterator[Any]:
    """Headers of each event as the client takes them, one at a time; None for none."""
    column = events["headers"].combine_chunks()
    if column.null_count == len(column):
        return repeat(None, len(column))
    flat = column.flatten()
    pairs = zip(flat.field(0).to_pylist(), flat.field(1).to_pylist(), strict=True)
    counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return (list(islice(pairs, count)) if count else None for count in counts.tolist())
