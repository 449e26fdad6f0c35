"""A compacted topic that keeps the newest head of each stream.

What doesn't live here: what a head is (`head`), and when it is recorded (`recorded`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from event_archive.errors import SourceProblem, SourceUnavailable
from event_archive.heads.head import HeadDocument, StreamHead, decode_document, encode_document
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors, unavailable

if TYPE_CHECKING:
    from confluent_kafka import Message

    from event_archive.source_config import KafkaSource

_POLL_SECONDS = 0.2
_MESSAGES = 1000


class TopicPlace:
    """See `recorded.HeadsPlace`; it forgets a head some time after a newer one of the stream came."""

    def __init__(self, source: KafkaSource) -> None:
        """Takes how the topic is reached, and asks nobody."""
        self._source = source
        self._errors = Errors()
        self.name = f"topic {source.topic} at {source.brokers}"

    def append(self, stream: str, head: StreamHead, made_at: str) -> None:
        """See `HeadsPlace`."""
        failures: list[KafkaError] = []

        def note(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        with kafka_errors(self._source, self._errors):
            self._make_topic()
            producer = Producer(
                client_properties(
                    self._source,
                    self._errors,
                    acks="all",
                    enable_idempotence=True,
                    message_timeout_ms=int(self._source.timeout_seconds * 1000),
                )
            )
            value = encode_document(HeadDocument(made_at, {stream: head}))
            producer.produce(self._source.topic, key=stream.encode(), value=value.encode(), on_delivery=note)
            left = producer.flush(self._source.timeout_seconds + 1)
            if failures:
                raise KafkaException(failures[0])
            if left:
                raise unavailable(self._source, self._errors, self._source.timeout_seconds)

    def read(self, stream: str) -> list[StreamHead]:
        """See `HeadsPlace`: the newest."""
        newest: bytes | None = None
        with kafka_errors(self._source, self._errors):
            consumer = Consumer(
                client_properties(
                    self._source,
                    self._errors,
                    group_id="event-archive-heads",
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    enable_partition_eof=True,
                    check_crcs=True,
                )
            )
            try:
                for message in self._messages(consumer):
                    if message.key() == stream.encode():
                        newest = message.value()
            finally:
                consumer.close()
        if newest is None:
            return []
        try:
            return [decode_document(newest).streams[stream]]
        except (ValueError, KeyError) as error:
            raise SourceProblem(f"{self.name}: what it has of {stream} is no head ({error}).") from error

    def _make_topic(self) -> None:
        """Makes the topic if there is none; one that is there stays as it is."""
        admin = AdminClient(client_properties(self._source, self._errors))
        known = admin.list_topics(timeout=self._source.timeout_seconds).topics
        if self._source.topic in known and known[self._source.topic].error is None:
            return
        topic = NewTopic(
            self._source.topic,
            num_partitions=1,
            replication_factor=-1,
            config={"cleanup.policy": "compact"},
        )
        try:
            admin.create_topics([topic], request_timeout=self._source.timeout_seconds)[
                self._source.topic
            ].result()
        except KafkaException as exception:
            if exception.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _messages(self, consumer: Consumer) -> list[Message]:
        """All that the topic holds, each partition's in order."""
        seconds = self._source.timeout_seconds
        described = consumer.list_topics(self._source.topic, timeout=seconds).topics[self._source.topic]
        if described.error is not None:
            if described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return []
            raise KafkaException(described.error)
        waiting = set(described.partitions)
        consumer.assign([TopicPartition(self._source.topic, p, 0) for p in waiting])
        found: list[Message] = []
        heard_at = time.monotonic()
        while waiting:
            messages = consumer.consume(_MESSAGES, _POLL_SECONDS)
            for message in messages:
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    waiting.discard(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > seconds:
                raise SourceUnavailable(str(unavailable(self._source, self._errors, seconds)))
        return found
