"""Producers that write records of every shape while a row of the campaign does its damage, and remember what was acknowledged.

What doesn't live here: what the topic holds in the end (`truth`).
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import KafkaException, Producer

from campaign.truth import CREATE_TIME, Headers, TruthFailed, Witness, record_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


TOPIC_CONFIG: Mapping[str, object] = {
    "message.timestamp.after.max.ms": 2**63 - 1,
    "message.timestamp.before.max.ms": 2**63 - 1,
}
"""What a topic must allow for the timestamps below."""

_TIMESTAMPS_MS = (-1, 1, -62_135_596_800_001, 253_402_300_800_000, 2**55)
_COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
_RECORDS_A_TRANSACTION = 30
_ABORTED_SHARE = 0.3
_SLICE_SECONDS = 0.02
_FLUSH_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A record before it is produced."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


def a_record(generator: random.Random, number: int) -> Shape:
    """A record of any shape: null, empty and odd keys, values, headers and timestamps, now and then a large one."""
    key = generator.choice((None, b"", b"key-%d" % (number % 97), generator.randbytes(8)))
    size = 200_000 if generator.random() < 0.0005 else generator.randrange(400)
    value = generator.choice(
        (None, b"", b'{"n":%d}' % number, *(generator.randbytes(size) for _ in range(5)))
    )
    names = ("trace", "trace", "", "größe")
    headers: Headers = None
    if generator.random() < 0.5:
        headers = [
            (generator.choice(names), generator.choice((None, b"", generator.randbytes(6))))
            for _ in range(generator.randrange(1, 4))
        ]
    timestamp_ms = time.time_ns() // 1_000_000
    if generator.random() < 0.05:
        timestamp_ms = generator.choice(_TIMESTAMPS_MS)
    return Shape(key, value, headers, timestamp_ms)


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    partition: int
    offset: int
    digest: bytes


class Producers:
    """Writes to a topic from several threads for as long as the context lasts.

    Two are idempotent, `acks=all`; one writes transactions, of which a part is aborted. After the context, `check` holds
    what the brokers acknowledged against what an independent consumer found.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        partitions: int,
        seed: str,
        events_per_second: int = 1500,
        transactions: bool = True,
    ) -> None:
        self.failures: list[str] = []
        self.acknowledged: list[_Acknowledged] = []
        self.refused = 0
        """Records that a broker didn't take: it was gone."""
        self._aborted: list[_Acknowledged] = []
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = partitions
        self._rate = events_per_second / (3 if transactions else 2)
        self._end = threading.Event()
        self._pause = threading.Event()
        works: list[tuple[Any, int]] = [(self._write_plainly, 0), (self._write_plainly, 1)]
        if transactions:
            works.append((self._write_transactions, 2))
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(work, random.Random(f"{seed}/{number}"), number), daemon=True
            )
            for work, number in works
        ]

    def __enter__(self) -> Self:
        """Starts them."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends them; everything written is acknowledged or refused then."""
        self._end.set()
        for thread in self._threads:
            thread.join(_FLUSH_SECONDS * 2)
        if kind is None and self.failures:
            raise TruthFailed(f"producers of {self._topic}: {self.failures[0]}")

    def check(self, witness: Witness) -> int:
        """Every acknowledged record is in the topic, no aborted one is; returns how many were acknowledged.

        Raises:
            TruthFailed: the topic itself isn't as it was written, and proves nothing about an archive.
        """
        for told, should in ((self.acknowledged, True), (self._aborted, False)):
            for record in told:
                found = witness.partitions.get(record.partition, {}).get(record.offset)
                if (found == record.digest) != should:
                    place = f"{self._topic}[{record.partition}] offset {record.offset}"
                    raise TruthFailed(
                        f"{place}: {'acknowledged, but not' if should else 'aborted, but'} in the topic"
                    )
        return len(self.acknowledged)

    def _guarded(self, work: Any, generator: random.Random, number: int) -> None:
        try:
            work(generator, number)
        except Exception as error:  # noqa: BLE001 - told by `__exit__`
            self.failures.append(f"{type(error).__name__}: {error}")

    def _write_plainly(self, generator: random.Random, number: int) -> None:
        producer = self._producer(generator, {"enable.idempotence": True})
        for count in self._slices():
            for _ in range(count):
                self._produce(producer, generator, number, self.acknowledged)
            producer.poll(0)
        if producer.flush(_FLUSH_SECONDS):
            raise TruthFailed("records were neither acknowledged nor refused")

    def _write_transactions(self, generator: random.Random, number: int) -> None:
        properties = {"transactional.id": f"{self._topic}-{number}", "transaction.timeout.ms": 10_000}
        producer = None
        pending = 0
        for count in self._slices():
            pending += count
            if pending < _RECORDS_A_TRANSACTION:
                continue
            told: list[_Acknowledged] = []
            try:
                if producer is None:
                    producer = self._producer(generator, properties)
                    producer.init_transactions(_FLUSH_SECONDS)
                producer.begin_transaction()
                for _ in range(pending):
                    self._produce(producer, generator, number, told)
                if generator.random() < _ABORTED_SHARE:
                    producer.flush(_FLUSH_SECONDS)
                    producer.abort_transaction(_FLUSH_SECONDS)
                    self._aborted += told
                else:
                    producer.commit_transaction(_FLUSH_SECONDS)
                    self.acknowledged += told
            except KafkaException:  # whether the transaction landed isn't known; the witness will tell
                producer = None
            pending = 0

    def _slices(self) -> Any:
        """How many records are due, again and again until the end."""
        started = time.monotonic()
        done = 0
        while not self._end.wait(_SLICE_SECONDS):
            if self._pause.is_set():
                started += _SLICE_SECONDS
                continue
            due = int((time.monotonic() - started) * self._rate) - done
            done += due
            yield min(due, 500)  # after a long stall not all at once

    def _producer(self, generator: random.Random, properties: dict[str, Any]) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "acks": "all",
                "compression.type": generator.choice(_COMPRESSIONS),
                "linger.ms": 5,
                "delivery.timeout.ms": int(_FLUSH_SECONDS * 1000),
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 300,
                "log_level": 0,
                **properties,
            }
        )

    def _produce(
        self, producer: Producer, generator: random.Random, number: int, told: list[_Acknowledged]
    ) -> None:
        shape = a_record(generator, number)

        def note(error: Any, message: Any) -> None:
            if error is not None:
                self.refused += 1
                return
            offset = message.offset()
            # Not the timestamp of the report: for a batch that was sent twice librdkafka gives another one there.
            timestamp = (CREATE_TIME, shape.timestamp_ms)
            digest = record_digest(offset, shape.key, shape.value, shape.headers, timestamp)
            told.append(_Acknowledged(message.partition(), offset, digest))

        headers: Any = shape.headers
        while True:
            try:
                producer.produce(
                    self._topic,
                    value=shape.value,
                    key=shape.key,
                    headers=headers,
                    partition=generator.randrange(self._partitions),
                    timestamp=shape.timestamp_ms,
                    on_delivery=note,
                )
            except BufferError:
                producer.poll(0.05)
            else:
                return
