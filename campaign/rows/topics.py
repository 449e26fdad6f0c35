"""Row 6: the topic changes under our feet: events deleted, the topic made anew, partitions added, a transaction left open."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from campaign.rows.rounds import every_round
from campaign.truth import Record, TruthFailed, Witness

if TYPE_CHECKING:
    from campaign.report import RowReport
    from campaign.world import Campaign, World

_SEGMENT_BYTES = 2**20
_ADDED = 2
_MADE_ANEW = "made anew"


@every_round
def delete_between_ingests(campaign: Campaign, row: RowReport) -> None:
    """Events are deleted that no ingest has seen, in one partition all that are there.

    Raises:
        TruthFailed: the archive holds anything but what it should, or doesn't say why.
    """
    world = campaign.world(row)
    world.write()
    world.ingest()
    world.write()
    high = world.high()
    deleted = {0: high[0], 1: high[1] - 5}  # one of them whole
    world.witness.catch_up()
    world.delete_records(deleted)
    world.ingest()
    world.write()
    world.ingest()
    _check_gaps(world, deleted, wanted={0, 1})
    row.done["events deleted before an ingest came: a gap, exactly recorded"] += 1


@every_round
def delete_under_follow(campaign: Campaign, row: RowReport) -> None:
    """Deleted while the one that reads them stands still.

    Raises:
        TruthFailed: the archive holds anything but what it should, or doesn't say why.
    """
    world = campaign.world(row)
    world.write()
    command = world.start_following()
    world.wait_for_entries(2, than=0, by=command)
    command.freeze()
    world.write()
    deleted = {partition: offset - 3 for partition, offset in world.high().items()}
    world.witness.catch_up()
    world.delete_records(deleted)
    command.thaw()
    world.write()
    world.wait_until(lambda: world.positions() == world.high(), "all to be archived", by=command)
    command.end_well()
    _check_gaps(world, deleted, wanted=set())
    row.done["events deleted under an ingest that follows: a gap, exactly recorded"] += 1


@every_round
def let_retention_delete(campaign: Campaign, row: RowReport) -> None:
    """The broker's own retention deletes them.

    Raises:
        TruthFailed: the archive holds anything but what it should, or doesn't say why.
    """
    world = campaign.world(
        row, partitions=1, topic_config={"segment.bytes": _SEGMENT_BYTES, "retention.bytes": -1}
    )
    world.write()
    world.ingest()
    generator = campaign.random(row)
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap, "acks": "all", "log_level": 0})
    for _ in range(50):
        producer.produce(world.topic, generator.randbytes(100_000))
    producer.flush()
    world.witness.catch_up()
    _set_retention(world, 1)
    position = world.positions()[0]
    world.wait_until(lambda: world.low()[0] > position, "retention")
    time.sleep(1)  # it may delete some more segments
    _set_retention(world, -1)
    low = world.low()[0]
    world.ingest()
    world.write()
    world.ingest()
    _check_gaps(world, {0: low}, wanted={0})
    row.done["events deleted by the broker's own retention: a gap, exactly recorded"] += 1


def _set_retention(world: World, retention_bytes: int) -> None:
    entry = ConfigEntry("retention.bytes", str(retention_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, world.topic, incremental_configs=[entry])
    for altered in world.admin.incremental_alter_configs([resource]).values():
        altered.result(60)


def _check_gaps(world: World, deleted: dict[int, int], *, wanted: set[int]) -> None:
    """What the archive lacks is what its gaps say, and no gap says more than what was deleted."""
    world.witness.catch_up()
    gaps = [(g["partition"], g["from_offset"], g["to_offset"]) for g in world.status()["gaps"]]
    if not wanted <= {partition for partition, _, _ in gaps}:
        raise TruthFailed(f"no gap is recorded where events were deleted before {deleted}: {gaps}")
    for partition, _, to in gaps:
        if to > deleted.get(partition, 0):
            raise TruthFailed(f"a gap of partition {partition} goes to {to}, but only {deleted} were deleted")
    world.check({world.source_id(): _without(world.witness.partitions, gaps)})


def _without(partitions: dict[int, Record], gaps: list[tuple[int, int, int]]) -> dict[int, Record]:
    return {
        number: {
            offset: digest
            for offset, digest in record.items()
            if not any(number == partition and first <= offset < to for partition, first, to in gaps)
        }
        for number, record in partitions.items()
    }


@every_round
def make_anew(campaign: Campaign, row: RowReport) -> None:
    """The same name, another topic: nothing of it is taken until that is accepted.

    Raises:
        TruthFailed: the archive holds anything but what it should, or doesn't say why.
    """
    world = campaign.world(row)
    world.write()
    command = world.start_following()
    world.wait_until(lambda: world.positions() == world.high(), "all to be archived", by=command)
    world.check()
    before = copy.deepcopy(world.witness.partitions)
    world.admin.delete_topics([world.topic])[world.topic].result(60)
    world.wait_until(
        lambda: world.topic not in world.admin.list_topics(timeout=30).topics, "the topic to be gone"
    )
    world.create_topic()
    world.write()
    world.write()  # so that it goes beyond the archive's positions
    if command.wait() != 1 or not any(
        text in command.said() for text in (_MADE_ANEW, "there is no such topic")
    ):
        raise TruthFailed(
            f"an ingest under which the topic was made anew ended with {command.code}: {command.said()}"
        )
    world.refused(saying=_MADE_ANEW)
    if not any(_MADE_ANEW in text for text in world.status()["unreadable"]):
        raise TruthFailed("status doesn't say that the topic was made anew")
    world.check({world.source_id(): before})
    row.done["topic made anew under an ingest that follows: it stops, nothing is mixed"] += 1
    command = world.accept()
    if command.code != 0:
        raise TruthFailed(f"accept ended with {command.code}: {command.said()}")
    world.witness = Witness(world.kafka.bootstrap, world.topic)
    world.witness.catch_up()
    world.check({world.source_id(): before, world.source_id(2): world.witness.partitions})
    row.done["the topic made anew accepted: archived as a second generation"] += 1


@every_round
def add_partitions(campaign: Campaign, row: RowReport) -> None:
    """Nothing of a new partition is left out, though its events come before anyone looks; `start_at` is about old ones.

    Raises:
        TruthFailed: the archive holds anything but what it should, or doesn't say why.
    """
    world = campaign.world(row, start_at="latest")
    world.ingest()
    with world.producing() as producers:  # so that there is a commit every second, and no quiet moment
        command = world.start_following()
        world.wait_for_entries(2, than=2, by=command)
        before = world.partitions
        world.partitions += _ADDED
        for made in world.admin.create_partitions([NewPartitions(world.topic, world.partitions)]).values():
            made.result(60)
        world.kafka.wait_until_ready()
        world.write()
        wanted = {partition: high for partition, high in world.high().items() if partition >= before}
        world.wait_until(
            lambda: all(world.positions().get(partition, 0) >= high for partition, high in wanted.items()),
            "the new partitions",
            by=command,
        )
        command.end_well()
    row.done["partitions added under an ingest that follows"] += 1
    world.finish([producers])


@every_round
def leave_transaction_open(campaign: Campaign, row: RowReport) -> None:
    """What lies behind an open transaction waits, and `status` says why.

    Raises:
        TruthFailed: the archive holds anything but what it should, or doesn't say why.
    """
    world = campaign.world(row, partitions=1)
    world.write()
    properties: dict[str, Any] = {"transactional.id": world.topic, "transaction.timeout.ms": 120_000}
    writer = Producer({"bootstrap.servers": world.kafka.bootstrap, "log_level": 0, **properties})
    writer.init_transactions(60)
    for end in (writer.commit_transaction, writer.abort_transaction):
        writer.begin_transaction()
        opened = world.high()[0]
        writer.produce(world.topic, b"of an open transaction")
        writer.flush()
        world.write(transactions=False, is_held_back=True)
        world.ingest()
        status = world.status()
        if world.positions()[0] != opened or not status["lag"]["held_back"]:
            raise TruthFailed(f"an open transaction at {opened} should hold back what follows: {status}")
        if not any("wait for a transaction that is open" in note for note in status["notes"]):
            raise TruthFailed(f"status doesn't say that a transaction is open: {status['notes']}")
        world.check()
        end(60)
        world.wait_for_transactions()
        world.ingest()
        world.check()
        row.done["a transaction left open holds back what follows, and status says why"] += 1
