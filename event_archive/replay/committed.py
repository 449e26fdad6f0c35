"""What readers of a topic see who leave out transactions that were aborted, or aren't over.

What doesn't live here: reading a stream's source into the archive (`event_archive.sources.kafka`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from event_archive.errors import SourceUnavailable
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors, unavailable

if TYPE_CHECKING:
    from collections.abc import Generator

    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.topic import Topic

_WAIT_SECONDS = 0.1
_LONGEST_TRANSACTION_SECONDS = 60.0
_QUEUE_KILOBYTES = 64 * 1024


def read_committed(topic: Topic, *, count: int = 10_000) -> Generator[list[Message], None, None]:
    """Lists of the messages that the topic holds now, those of each partition in order.

    Waits for transactions that are open now to end: what they bring may be what is looked for.

    Args:
        topic: the topic.
        count: a list has so many messages at most.

    Raises:
        SourceUnavailable: the brokers stop answering, or a transaction doesn't end.
    """
    source = topic.source
    state = topic.state()
    if missing := set(state.identity.partitions) - set(state.bounds):
        raise SourceUnavailable(f"topic {source.topic} partition {min(missing)} has no leader at the moment.")
    ends = {p: bounds.high for p, bounds in state.bounds.items() if bounds.high > bounds.low}
    if not ends:
        return
    errors = Errors()
    with kafka_errors(source, errors):
        consumer = _consumer(source, errors)
        try:
            consumer.assign([TopicPartition(source.topic, p, state.bounds[p].low) for p in ends])
            heard_at = time.monotonic()
            while ends:
                messages = _take_ends(consumer.consume(count, _WAIT_SECONDS), ends)
                if messages:
                    heard_at = time.monotonic()
                    yield messages
                elif time.monotonic() - heard_at > source.timeout_seconds + _LONGEST_TRANSACTION_SECONDS:
                    raise unavailable(source, errors, time.monotonic() - heard_at)
        finally:
            consumer.close()


def _consumer(source: KafkaSource, errors: Errors) -> Consumer:
    return Consumer(
        client_properties(
            source,
            errors,
            group_id="event-archive-replay",  # never joined, and nothing is written to it
            isolation_level="read_committed",
            auto_offset_reset="error",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            check_crcs=True,
        )
        | {"queued.max.messages.kbytes": _QUEUE_KILOBYTES, "fetch.wait.max.ms": 100}
    )


def _take_ends(messages: list[Message], ends: dict[int, int]) -> list[Message]:
    """Takes the ends of partitions out of `messages`, and those that were reached out of `ends`.

    An end is reached by the broker's word that there is no more, or, where others go on writing, by a record behind it.
    """
    records = []
    for message in messages:
        error = message.error()
        if error is None:
            records.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            _pass(ends, message.partition(), message.offset())
        elif not error.retriable():
            raise KafkaException(error)
    newest = {message.partition(): message.offset() for message in records}
    for partition, offset in newest.items():
        _pass(ends, partition, None if offset is None else offset + 1)
    return records


def _pass(ends: dict[int, int], partition: int | None, offset: int | None) -> None:
    """Notes that a partition was read up to `offset`."""
    if partition in ends and offset is not None and offset >= ends[partition]:
        del ends[partition]
