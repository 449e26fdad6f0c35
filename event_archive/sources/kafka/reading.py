"""Records of a topic from a plan's positions on, as blocks of columns.

A block also says how far each partition was read: a position is reached by the record before it, or by the broker's word
that the partition ends there (librdkafka's end-of-partition event), which it gives only once everything before has been
read. Offsets between that held no record are therefore holes, and not records that were left out.

What doesn't live here: what is committed when (`ingest`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from event_archive.errors import SourceProblem
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors, unavailable
from event_archive.sources.kafka.plan import Halted, differs_reason
from event_archive.sources.kafka.records import offsets_of, partitions_of, record_columns, record_digest

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    import numpy.typing as npt
    import pyarrow as pa

    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.plan import Start

_RECORDS_A_BLOCK = 10_000
_WAIT_SECONDS = 0.1
_ROW_OVERHEAD_BYTES = 64
_QUEUE_KILOBYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Block:
    """Records as they came: of several partitions, those of each in order."""

    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    columns: dict[str, pa.Array]
    """The rest of the envelope, by name."""
    newest: dict[int, Message]
    """The last record of each partition in this block."""
    ends: dict[int, int] = field(default_factory=dict)
    """Offset up to which a partition was read to its end, by partition."""
    size_bytes: int = 0
    """About how much memory it takes."""
    halted: tuple[Halted, ...] = ()
    is_last: bool = False
    """Whether the rest must be planned anew: the broker hasn't any more what was asked for."""


class Reader:
    """One consumer, read by one thread."""

    def __init__(self, stream: str, source: KafkaSource, starts: dict[int, Start]) -> None:
        self._stream = stream
        self._source = source
        self._starts = starts
        self._errors = Errors()
        self._unproved = {p: start for p, start in starts.items() if start.is_anchor_there}
        self._halted: set[int] = set()
        with kafka_errors(source):
            self._consumer = Consumer(
                client_properties(
                    source,
                    self._errors,
                    group_id=source.group or f"event-archive-{stream}",
                    isolation_level=source.isolation,
                    auto_offset_reset="error",
                    enable_auto_commit=False,
                    enable_auto_offset_store=False,
                    enable_partition_eof=True,
                    check_crcs=True,
                )
                | _sizes(source)
            )

    def blocks(
        self, is_done: Callable[[], bool], stop: threading.Event | None
    ) -> Generator[Block, None, None]:
        """Reads until `is_done`, or until `stop` is set.

        Raises:
            SourceProblem: a record came damaged.
            SourceUnavailable: an ingest that doesn't follow has heard nothing for too long.
        """
        topic = self._source.topic
        with kafka_errors(self._source):
            self._consumer.assign(
                [TopicPartition(topic, s.partition, s.read_from) for s in self._starts.values()]
            )
        heard_at = time.monotonic()
        try:
            while not is_done() and not (stop and stop.is_set()):
                messages = self._consumer.consume(_RECORDS_A_BLOCK, _WAIT_SECONDS)
                if messages:
                    heard_at = time.monotonic()
                    block = self._block(messages)
                    yield block
                    if block.is_last:
                        return
                elif stop is None and time.monotonic() - heard_at > self._source.timeout_seconds:
                    raise unavailable(self._source, self._errors, self._source.timeout_seconds)
                elif stop is not None:
                    yield _EMPTY
        finally:
            self._consumer.close()

    def _block(self, messages: list[Message]) -> Block:
        ends: dict[int, int] = {}
        is_last = False
        if any(map(Message.error, messages)):
            records = []
            for message in messages:
                error = message.error()
                if error is None:
                    records.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    ends[message.partition()] = message.offset()  # type: ignore[index,assignment]
                else:
                    is_last |= self._must_plan_anew(error, message)
            messages = records
        halted: list[Halted] = []
        if self._unproved or self._halted:
            messages = self._proved(messages, halted)
            for partition in ends:  # only after the records that came before the end
                self._unproved.pop(partition, None)
        partitions, offsets = partitions_of(messages), offsets_of(messages)
        columns, size_bytes = record_columns(messages)
        changes = np.flatnonzero(np.diff(partitions, append=-1))
        newest = {int(partitions[i]): messages[i] for i in changes}
        return Block(
            partitions,
            offsets,
            columns,
            newest,
            ends,
            size_bytes + len(messages) * _ROW_OVERHEAD_BYTES,
            tuple(halted),
            is_last,
        )

    def _must_plan_anew(self, error: KafkaError, message: Message) -> bool:
        if error.code() == KafkaError._BAD_MSG:  # noqa: SLF001 - its public name
            raise SourceProblem(
                f"topic {self._source.topic} partition {message.partition()} holds a damaged record near offset "
                f"{message.offset()}: {error.str()}."
            )
        self._errors.note(error)
        return error.code() in _PLAN_ANEW

    def _proved(self, messages: list[Message], halted: list[Halted]) -> list[Message]:
        """Takes the records that are archived already out of `messages`, after a look whether they are still the same."""
        records = []
        for message in messages:
            partition, offset = message.partition(), message.offset()
            start = self._unproved.get(partition)  # type: ignore[arg-type]
            if partition in self._halted:
                continue
            if start is None:
                records.append(message)
            elif offset == start.anchor_offset and record_digest(message) != start.anchor_digest:
                self._halted.add(start.partition)
                halted.append(Halted(start.partition, differs_reason(self._stream, start.partition, offset)))
                self._consumer.incremental_unassign([TopicPartition(self._source.topic, start.partition)])
            elif offset >= start.position:  # type: ignore[operator]
                del self._unproved[start.partition]
                records.append(message)
        return records


def _sizes(source: KafkaSource) -> dict[str, int]:
    """Bounded memory, whatever the number of partitions, unless the configuration asks for other sizes."""
    defaults = {"queued.max.messages.kbytes": _QUEUE_KILOBYTES, "fetch.wait.max.ms": 100}
    return {name: value for name, value in defaults.items() if name not in source.properties}


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
_EMPTY = Block(np.empty(0, np.int32), np.empty(0, np.int64), {}, {})
