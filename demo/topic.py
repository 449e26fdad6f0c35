"""Topics as the demo's services use them: made with room for old events, and written so that nothing is lost, doubled or disordered.

What is written isn't known here, nor is any broker started here (`demo/kafka`).
"""

from __future__ import annotations

import logging
import time
import zlib
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITIONS = 6
PATIENCE_SECONDS = 60.0
ANSWER_SECONDS = 15.0
MOST_RECORD_BYTES = 16 << 20
TOPIC_CONFIG = {
    "retention.ms": -1,  # brokers count from a record's timestamp, and the demo's lie years back
    "retention.bytes": -1,
    "max.message.bytes": MOST_RECORD_BYTES,
    "message.timestamp.type": "CreateTime",
}

NOW = 0  # as a timestamp, to librdkafka

# What goes wrong comes as errors; librdkafka would say it on stderr too.
_SILENT = logging.getLogger("demo.topic")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

Headers = list[tuple[str, str | bytes | None]]


class NotDelivered(Exception):
    """The brokers didn't confirm that they have what was sent to them, though they may have it; or there are none."""


def record_headers(server: str) -> Headers:
    """The headers of all records that this server writes."""
    return [("content-type", b"application/json"), ("server", server.encode())]


def partition_of(key: bytes | None, partitions: int) -> int:
    """Return the partition of a key as librdkafka's partitioner `consistent` gives it; no key is the empty one."""
    return zlib.crc32(key or b"") % partitions


def ensure_topic(brokers: str, topic: str, partitions: int = PARTITIONS) -> int:
    """Make the topic if it isn't there, wait until it can be written, and return how many partitions it has.

    Raises:
        NotDelivered: The brokers don't answer, or don't make it.
    """
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    new = NewTopic(topic, partitions, config={name: str(value) for name, value in TOPIC_CONFIG.items()})
    try:
        admin.list_topics(timeout=ANSWER_SECONDS)
        _create(admin, new)
        return _partitions_with_leaders(admin, topic)
    except (KafkaException, TimeoutError) as exception:
        reason = exception.args[0].str() if isinstance(exception, KafkaException) else "no answer"
        raise NotDelivered(f"The topic {topic} can't be had at {brokers}: {reason}.") from None


def retention_ms(brokers: str, topic: str) -> int:
    """Return for how long brokers keep a record, from its timestamp on; -1 for ever.

    Raises:
        NotDelivered: The brokers don't answer.
    """
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    place = ConfigResource(ResourceType.TOPIC, topic)
    try:
        config = admin.describe_configs([place], request_timeout=ANSWER_SECONDS)[place].result(ANSWER_SECONDS)
    except (KafkaException, TimeoutError):
        raise NotDelivered(f"The configuration of the topic {topic} can't be had at {brokers}.") from None
    return int(config["retention.ms"].value)


def _create(admin: AdminClient, new: NewTopic) -> None:
    try:
        admin.create_topics([new])[new.topic].result(PATIENCE_SECONDS)
    except KafkaException as exception:
        if exception.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _partitions_with_leaders(admin: AdminClient, topic: str) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
        if found.partitions and all(partition.leader >= 0 for partition in found.partitions.values()):
            return len(found.partitions)
        time.sleep(0.05)
    raise TimeoutError


class TopicWriter:
    """An idempotent producer for one topic. Records of one key stay in the order in which they are sent.

    A partition holds the records sent to it without a hole, up to some record: none is ever given up while later ones go through.

    Args:
        brokers: Addresses to begin with.
        topic: A topic that is there.
        partitions: How many it has.
        patience_seconds: Without any confirmation for so long, the brokers are taken to be gone.
    """

    def __init__(
        self, brokers: str, topic: str, partitions: int, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._place = f"the topic {topic} at {brokers}"
        self._topic = topic
        self._partitions = partitions
        self._patience_seconds = patience_seconds
        self._failure: KafkaError | None = None
        self._newest_error: KafkaError | None = None
        self._heard_at = time.monotonic()
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "enable.idempotence": True,
                "acks": "all",
                "enable.gapless.guarantee": True,
                "message.timeout.ms": 0,  # a record that is given up would leave a hole: `confirm` loses patience instead
                "message.max.bytes": MOST_RECORD_BYTES,
                "compression.type": "zstd",
                "linger.ms": 10,
                "error_cb": self._note_error,
            },
            logger=_SILENT,
        )

    def send(
        self,
        value: bytes,
        *,
        key: bytes | None,
        headers: Headers,
        timestamp_ms: int = NOW,
        partition: int | None = None,
    ) -> None:
        """Send one record; it's safe after the next `confirm`.

        Args:
            value: The record's value.
            key: Its key.
            headers: Its headers.
            timestamp_ms: Its time, in milliseconds since 1970.
            partition: Its partition; its key's if not given.

        Raises:
            NotDelivered: The brokers take nothing any more.
        """
        if partition is None:
            partition = partition_of(key, self._partitions)
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value,
                    key,
                    partition=partition,
                    headers=headers,
                    on_delivery=self._note_delivery,
                    timestamp=timestamp_ms,
                )
                self._producer.poll(0)
            except BufferError:  # as much is under way as may be
                self._serve(0.1)
            except KafkaException as exception:
                raise self._not_delivered(exception.args[0]) from None
            else:
                return

    def confirm(self) -> None:
        """Return when all replicas in sync have every record that was sent.

        Raises:
            NotDelivered: They don't say so; some records may be there nevertheless.
        """
        self._heard_at = time.monotonic()
        while self._serve(0.2):
            pass

    def _serve(self, seconds: float) -> int:
        """Wait for confirmations; return how many are still to come."""
        try:
            left = self._producer.flush(seconds)
        except KafkaException as exception:  # once it can't go on without a hole
            raise self._not_delivered(exception.args[0]) from None
        if self._failure is not None:
            raise self._not_delivered(self._failure)
        if time.monotonic() - self._heard_at > self._patience_seconds:
            raise self._not_delivered(self._newest_error)
        return left

    def _note_delivery(self, error: KafkaError | None, _message: Message) -> None:
        self._heard_at = time.monotonic()
        self._failure = self._failure or error

    def _note_error(self, error: KafkaError) -> None:
        self._newest_error = error

    def _not_delivered(self, error: KafkaError | None) -> NotDelivered:
        reason = error.str() if error else f"nothing was heard of it for {self._patience_seconds:.0f} s"
        return NotDelivered(f"Not everything got into {self._place}: {reason.rstrip('.')}.")


class TopicReader:
    """Looks at what a topic holds."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "demo", "log_level": 0})

    def ends(self, partitions: int) -> list[tuple[int, int]]:
        """Return, per partition, the offset of the first record there, and of the next one to come."""
        return [self._ends(TopicPartition(self._topic, partition)) for partition in range(partitions)]

    def _ends(self, place: TopicPartition) -> tuple[int, int]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                first, end = self._consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS, cached=False)
            except KafkaException as exception:
                # A leader is named before it knows of it itself.
                if time.monotonic() > deadline:
                    error = exception.args[0]
                    raise NotDelivered(f"The topic {self._topic} can't be read: {error.str()}.") from None
                time.sleep(0.05)
            else:
                return first, end

    def values(self, offsets: Sequence[tuple[int, int]]) -> dict[int | None, bytes | None]:
        """Return, by partition, the value of the record at an offset; `offsets` are pairs of partition and offset."""
        found: dict[int | None, bytes | None] = {}
        self._consumer.assign(
            [TopicPartition(self._topic, partition, offset) for partition, offset in offsets]
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < len(offsets):
            message = self._consumer.poll(1)
            if message is not None and message.error() is None:
                found.setdefault(message.partition(), message.value())
            if time.monotonic() > deadline:
                raise NotDelivered(f"The topic {self._topic} can't be read.")
        return found

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()


def cluster_id(brokers: str) -> str:
    """Return the id that tells this cluster from all others, wherever it's reached.

    Raises:
        NotDelivered: The brokers don't answer.
    """
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    try:
        described = admin.describe_cluster(request_timeout=ANSWER_SECONDS).result(ANSWER_SECONDS)
    except (KafkaException, TimeoutError):
        raise NotDelivered(f"No Kafka answers at {brokers}.") from None
    return str(described.cluster_id)
