"""A topic of a row's world: made, written to, asked where it begins and ends, and watched by an independent consumer.

What doesn't live here: the archive of it (`world`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from campaign.ingesters import PATIENCE_SECONDS, Command
from campaign.producing import TOPIC_CONFIG, Producers
from campaign.truth import TruthFailed, Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from campaign.report import RowReport
    from campaign.settings import Settings
    from demo.kafka.broker import Kafka

_ADMIN_SECONDS = 60


@dataclass(slots=True)
class LiveTopic:
    """A topic and those who write to it and watch it."""

    row: RowReport
    settings: Settings
    kafka: Kafka
    topic: str
    partitions: int
    witness: Witness
    admin: AdminClient
    """Kept for the topic's whole life: an admin client that is collected never answers what it was asked."""
    writings: int
    """How often producers were set to work."""

    def create_topic(
        self, config: Mapping[str, object] | None = None, replicas: list[list[int]] | None = None
    ) -> None:
        """Creates the topic, with a configuration beyond what the records need, and node ids per partition if given."""
        config = {**TOPIC_CONFIG, **(config or {})}
        if replicas is None:
            self.kafka.create_topic(self.topic, self.partitions, config=config)
            return
        texts = {key: str(value) for key, value in config.items()}
        topic = NewTopic(self.topic, self.partitions, replica_assignment=replicas, config=texts)
        self.admin.create_topics([topic])[self.topic].result(_ADMIN_SECONDS)
        self.kafka.wait_until_ready()

    def producing(self, **options: Any) -> Producers:
        """Producers that write to the topic; other records each time."""
        self.writings += 1
        seed = f"{self.settings.seed}/{self.row.number}/{self.writings}"
        return Producers(self.kafka.bootstrap, self.topic, partitions=self.partitions, seed=seed, **options)

    def write(self, *, transactions: bool = True, is_held_back: bool = False) -> None:
        """Has producers write for a while, and longer where a partition has got nothing yet.

        Args:
            transactions: whether some of them write transactions.
            is_held_back: whether a transaction is open, behind which a consumer sees nothing.
        """
        before = self.high()
        with self.producing(transactions=transactions) as producers:
            time.sleep(self.settings.seconds)
            self.wait_until(lambda: all(high > before[p] for p, high in self.high().items()), "producers")
        if not is_held_back:
            self.wait_for_transactions()
            fresh = Witness(self.kafka.bootstrap, self.topic)
            fresh.catch_up()
            self.row.acknowledged += producers.check(fresh)

    def wait_for_backlog(self, events: int) -> None:
        """Waits until the brokers have got so many events more, so that there is something to commit."""
        wanted = sum(self.high().values()) + events
        self.wait_until(lambda: sum(self.high().values()) >= wanted, "producers")

    def source_id(self, generation: int = 1) -> str:
        """The source id of the topic, as DESIGN has it."""
        cluster = self.admin.describe_cluster(request_timeout=30).result(_ADMIN_SECONDS).cluster_id
        return f"kafka://{cluster}/{self.topic}" + (f"#{generation}" if generation > 1 else "")

    def wait_until(self, holds: Callable[[], bool], what: str, *, by: Command | None = None) -> None:
        """Waits until `holds`.

        Args:
            holds: is asked again and again.
            what: in words.
            by: the command that should bring it about; if it ends, waiting is in vain.

        Raises:
            TruthFailed: it takes too long.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if by is not None and not by.is_running() and not holds():
                raise TruthFailed(f"a command ended with {by.code} before there was {what}: {by.said()}")
            if time.monotonic() > until:
                raise TruthFailed(f"{self.topic}: waited {PATIENCE_SECONDS:.0f} s in vain for {what}")
            time.sleep(0.01)

    def high(self, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED) -> dict[int, int]:
        """Where each partition ends."""
        return self._offsets(OffsetSpec.latest(), isolation)

    def low(self) -> dict[int, int]:
        """Where each partition begins."""
        return self._offsets(OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)

    def _offsets(self, spec: OffsetSpec, isolation: IsolationLevel) -> dict[int, int]:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.admin.list_topics(self.topic, timeout=30)  # else it goes on asking a leader of the past
                asked = {TopicPartition(self.topic, n): spec for n in range(self.partitions)}
                answers = self.admin.list_offsets(asked, isolation_level=isolation, request_timeout=30)
                return {
                    place.partition: answer.result(_ADMIN_SECONDS).offset for place, answer in answers.items()
                }
            except KafkaException:  # a leader is being chosen
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def wait_for_transactions(self) -> None:
        """Waits until no transaction is open any more."""
        self.wait_until(
            lambda: self.high() == self.high(IsolationLevel.READ_COMMITTED), "the end of all transactions"
        )

    def delete_records(self, before: Mapping[int, int]) -> None:
        """Has the broker delete what lies before these offsets, as retention does."""
        asked = [TopicPartition(self.topic, partition, offset) for partition, offset in before.items()]
        for deleted in self.admin.delete_records(asked, request_timeout=30).values():
            deleted.result(_ADMIN_SECONDS)
