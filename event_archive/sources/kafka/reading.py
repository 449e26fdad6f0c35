"""Records of a topic from a plan's positions on, as blocks of columns.

A block also says how far each partition was read: a position is reached by the record before it, or by the broker's word
that the partition ends there (librdkafka's end-of-partition event), which it gives only once everything before has been
read. Offsets between that held no record are therefore holes, and not records that were left out.

What doesn't live here: what is committed when (`ingest`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from event_archive.cycle_collector import without_cycle_collector
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors, unavailable
from event_archive.sources.kafka.plan import Halted, differs_reason
from event_archive.sources.kafka.records import message_digest, offsets_of, partitions_of, record_columns

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    import numpy.typing as npt
    import pyarrow as pa

    from event_archive.errors import EventArchiveError
    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.plan import Start

_RECORDS_A_BLOCK = 10_000
_BLOCK_BYTES = 2**23
_WAIT_SECONDS = 0.1
_ROW_OVERHEAD_BYTES = 64
# librdkafka's own defaults let its queue run empty again and again, since it asks a partition for no more for a second once
# enough is queued; and they hold up to 50 MB an answer, which is decompressed besides.
FETCH_PROPERTIES = {
    "queued.max.messages.kbytes": 32 * 1024,
    "queued.min.messages": 50_000,
    "fetch.max.bytes": 4 * 2**20,
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
}


def open_consumer(stream: str, source: KafkaSource, errors: Errors) -> Consumer:
    """A consumer that is told where to read, never moves by itself, and checks what it gets."""
    return Consumer(
        client_properties(
            source,
            errors,
            group_id=source.group or f"event-archive-{stream}",
            isolation_level=source.isolation,
            auto_offset_reset="error",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            check_crcs=True,
        )
        | {name: value for name, value in FETCH_PROPERTIES.items() if name not in source.properties}
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Records by partition, those of each in the order in which they came."""

    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    columns: dict[str, pa.Array]
    """The rest of the envelope, by name."""
    ends: dict[int, int] = field(default_factory=dict)
    """Offset up to which a partition was read to its end, by partition."""
    size_bytes: int = 0
    """About how much memory it takes."""
    halted: tuple[Halted, ...] = ()
    is_last: bool = False
    """Whether the rest must be planned anew: the broker hasn't any more what was asked for."""
    failure: EventArchiveError | None = None
    """Why nothing comes any more; the last block then."""


class Reader:
    """One consumer, read by one thread."""

    def __init__(self, stream: str, source: KafkaSource, starts: dict[int, Start]) -> None:
        self._stream = stream
        self._source = source
        self._starts = starts
        self._errors = Errors()
        self._unproved = {p: start for p, start in starts.items() if start.is_anchor_there}
        self._halted: set[int] = set()
        self._records_a_block = _RECORDS_A_BLOCK
        with kafka_errors(source):
            self._consumer = open_consumer(stream, source, self._errors)

    def blocks(
        self, is_done: Callable[[], bool], stop: threading.Event | None
    ) -> Generator[Block, None, None]:
        """Reads until `is_done`, or until `stop` is set; without `stop` only as long as the brokers are heard of."""
        topic = self._source.topic
        with kafka_errors(self._source):
            self._consumer.assign(
                [TopicPartition(topic, s.partition, s.read_from) for s in self._starts.values()]
            )
        heard_at = time.monotonic()
        has_heard = False
        try:
            while not is_done() and not (stop and stop.is_set()):
                with without_cycle_collector():
                    block = self._next_block()
                if self._errors.has_lost_brokers:
                    if has_heard:
                        # Who answers when they are there again may have other events: begin anew with the newest archived
                        # one. (Where only some brokers are lost, the leader epochs of the others tell of other events.)
                        yield replace(_EMPTY, is_last=True)
                        return
                    self._errors.has_lost_brokers = False  # the first connections take a while
                if block is not None:
                    has_heard = True
                    yield block
                    if block.is_last:
                        return
                    heard_at = time.monotonic()
                elif stop is None and time.monotonic() - heard_at > self._source.timeout_seconds:
                    yield replace(
                        _EMPTY, failure=unavailable(self._source, self._errors, self._source.timeout_seconds)
                    )
                    return
                elif stop is not None:
                    yield _EMPTY
        finally:
            self._consumer.close()

    def _next_block(self) -> Block | None:
        messages = self._consumer.consume(self._records_a_block, _WAIT_SECONDS)
        if not messages:
            return None
        block = self._block(messages)
        if block.size_bytes:  # the next records will be about as large as these
            records = _BLOCK_BYTES * len(block.offsets) // block.size_bytes
            self._records_a_block = min(max(records, 1), _RECORDS_A_BLOCK)
        return block

    def _block(self, messages: list[Message]) -> Block:
        ends: dict[int, int] = {}
        halted: list[Halted] = []
        is_last = False
        dropped = set(self._halted)
        if any(map(Message.error, messages)):
            records = []
            for message in messages:
                error = message.error()
                if error is None:
                    if message.partition() not in self._halted:  # what came before its error is good
                        records.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    ends[message.partition()] = message.offset()  # type: ignore[index,assignment]
                else:
                    is_last |= self._must_plan_anew(error, message, halted)
            messages = records
        if self._unproved or self._halted:
            messages = self._proved(messages, dropped, halted)
            ends = {partition: end for partition, end in ends.items() if partition not in self._halted}
            for partition in ends:  # only after the records that came before the end
                self._unproved.pop(partition, None)
        messages.sort(key=Message.partition)  # type: ignore[arg-type]  # keeps the order within each
        partitions, offsets = partitions_of(messages), offsets_of(messages)
        try:
            columns, size_bytes = record_columns(messages)
        except (SystemError, UnicodeDecodeError):
            messages = self._with_readable_headers(messages, halted)
            ends = {partition: end for partition, end in ends.items() if partition not in self._halted}
            partitions, offsets = partitions_of(messages), offsets_of(messages)
            columns, size_bytes = record_columns(messages)
        return Block(
            partitions,
            offsets,
            columns,
            ends,
            size_bytes + len(messages) * _ROW_OVERHEAD_BYTES,
            tuple(halted),
            is_last,
        )

    def _must_plan_anew(self, error: KafkaError, message: Message, halted: list[Halted]) -> bool:
        self._errors.note(error)
        partition = message.partition()
        if partition in self._halted:
            return False  # the client stumbles on behind what it can't read
        if error.code() in _PLAN_ANEW:
            return True
        if partition is not None and partition >= 0 and not error.retriable():
            # The client goes on behind what it can't read, and what it left out must not pass for a hole.
            reason = f"can't be read from offset {message.offset()} on, or shortly before it: {error.str().rstrip('.')}"
            self._halt(Halted(partition, reason, is_contradiction=False), halted)
        return False

    def _halt(self, why: Halted, halted: list[Halted]) -> None:
        if why.partition not in self._halted:
            self._halted.add(why.partition)
            halted.append(why)
            self._consumer.incremental_unassign([TopicPartition(self._source.topic, why.partition)])

    def _with_readable_headers(self, messages: list[Message], halted: list[Halted]) -> list[Message]:
        """The records before the first one of each partition whose headers the client can't give."""
        records = []
        for message in messages:
            partition: Any = message.partition()
            if partition in self._halted and any(why.partition == partition for why in halted):
                continue
            try:
                message.headers()
            except (SystemError, UnicodeDecodeError):
                reason = f"has a header at offset {message.offset()} whose name is no UTF-8, which Kafka's protocol asks for"
                self._halt(Halted(partition, reason, is_contradiction=False), halted)
            else:
                records.append(message)
        return records

    def _proved(self, messages: list[Message], dropped: set[int], halted: list[Halted]) -> list[Message]:
        """Takes the records that are archived already out of `messages`, after a look whether they are still the same."""
        records = []
        for message in messages:
            partition, offset = message.partition(), message.offset()
            start = self._unproved.get(partition)  # type: ignore[arg-type]
            if partition in dropped:
                continue
            if start is None:
                records.append(message)
            elif self._contradicts(start, message):
                dropped.add(start.partition)
                reason = differs_reason(self._stream, start.partition, offset or 0)
                self._halt(Halted(start.partition, reason), halted)
            elif offset >= start.position:  # type: ignore[operator]
                del self._unproved[start.partition]
                records.append(message)
        return records

    def _contradicts(self, start: Start, message: Message) -> bool:
        """Whether a record stands where the archive has another one, or knows of a hole.

        Who reads uncommitted records sees some where a hole was known, if the configuration was another one then.
        """
        offset = message.offset()
        if offset == start.anchor_offset:
            try:
                return message_digest(message) != start.anchor_digest
            except (SystemError, UnicodeDecodeError):  # headers that no archived event has
                return True
        return self._source.isolation == "read_committed" and offset < start.position  # type: ignore[operator]


_PLAN_ANEW = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - public names
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._LOG_TRUNCATION,  # noqa: SLF001
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
_EMPTY = Block(np.empty(0, np.int32), np.empty(0, np.int64), {})
