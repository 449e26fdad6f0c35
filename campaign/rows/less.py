"""Row 8: the broker has less than the archive, or something else in its place.

It was restored from an old copy, or is led by a replica that had fallen behind.
"""

from __future__ import annotations

import copy
import shutil
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from campaign.truth import Record, TruthFailed, Witness

if TYPE_CHECKING:
    from campaign.report import RowReport
    from campaign.world import Campaign, World
    from demo.kafka.broker import Kafka

_PARTITIONS = 2
_LOST = "the broker has lost events, or was restored from an old copy"
_OTHERS = "the broker has lost events and given their offsets away again"


def restore(campaign: Campaign, row: RowReport) -> None:
    """The broker has less than the archive; in every second round it has grown past our position with other events.

    Raises:
        TruthFailed: the archive went on by itself, said nothing, or lost something.
    """
    kafka = campaign.start_kafka()
    for number in range(campaign.settings.rounds):
        _restore_less(campaign, row, kafka, grows=number % 2 == 1)


def _restore_less(campaign: Campaign, row: RowReport, kafka: Kafka, *, grows: bool) -> None:
    """Less than the archive; or, if it `grows`, as much and more, but not the same."""
    world = campaign.world(row, kafka=kafka, partitions=_PARTITIONS)
    world.write()
    world.ingest()
    backup = _back_up(world)
    world.write()
    world.ingest()
    world.check()
    before = copy.deepcopy(world.witness.partitions)
    ends = world.high()
    _put_back(world, backup)
    if grows:
        while any(high <= ends[partition] for partition, high in world.high().items()):
            world.write()
    _stands_still(world, before, _OTHERS if grows else _LOST)
    row.done[
        "restored from an old copy, then past our position: refused"
        if grows
        else "restored from an old copy: refused"
    ] += 1
    _accept_all(world, before)
    world.write()
    world.ingest()
    _check_generations(world, before)


def restore_under_follow(campaign: Campaign, row: RowReport) -> None:
    """The same while an ingest that follows stands still, so that it sees nothing but the outcome.

    Raises:
        TruthFailed: it went on by itself, said nothing, or lost something.
    """
    kafka = campaign.start_kafka()
    for _ in range(campaign.settings.rounds):
        _restore_under_follow(campaign, row, kafka)


def _restore_under_follow(campaign: Campaign, row: RowReport, kafka: Kafka) -> None:
    world = campaign.world(row, kafka=kafka, partitions=_PARTITIONS)
    world.write()
    backup = _back_up(world)
    world.write()
    command = world.start_following()
    world.wait_until(lambda: world.positions() == world.high(), "all to be archived", by=command)
    world.check()
    before = copy.deepcopy(world.witness.partitions)
    ends = world.high()
    command.freeze()
    _put_back(world, backup)
    while any(high <= ends[partition] for partition, high in world.high().items()):
        world.write()
    command.thaw()
    world.wait_until(
        lambda: "has lost events" in command.said(), "word of what the broker has lost", by=command
    )
    command.end()
    world.check({world.source_id(): before})
    row.done[
        "restored from an old copy and past our position under an ingest that follows: it stops there and says so"
    ] += 1
    _stands_still(world, before, _OTHERS)
    _accept_all(world, before)
    _check_generations(world, before)


def restore_behind_holes(campaign: Campaign, row: RowReport) -> None:
    """What the broker lost were no events, but holes that the archive knows: events have their offsets now.

    Raises:
        TruthFailed: it went on by itself, said nothing, or lost something.
    """
    kafka = campaign.start_kafka()
    world = campaign.world(row, kafka=kafka, partitions=1)
    _send(world, 50, b"kept")
    backup = _back_up(world)
    _abort(world, 20)
    world.ingest()
    world.check()
    before = copy.deepcopy(world.witness.partitions)
    if world.positions() != world.high():
        raise TruthFailed("the archive's position is not behind the aborted events")
    _put_back(world, backup)
    _send(world, 200, b"new")
    _stands_still(world, before, _OTHERS)
    row.done["restored from an old copy, events in place of what were holes: refused"] += 1
    _accept_all(world, before)
    _check_generations(world, before)


def elect_uncleanly(campaign: Campaign, row: RowReport) -> None:
    """A replica that has fallen behind becomes the leader, and what it hasn't is lost.

    Raises:
        TruthFailed: the archive went on by itself, said nothing, or lost something.
    """
    kafka = campaign.start_kafka(nodes=3)
    ahead, behind, _ = kafka.nodes
    config = {"unclean.leader.election.enable": "true", "min.insync.replicas": 1}
    world = campaign.world(row, kafka=kafka, topic_config=config, replicas=[[ahead.id, behind.id]])
    world.write()
    behind.stop()
    kafka.wait_until_ready()
    world.write()
    world.ingest()
    world.check()
    before = copy.deepcopy(world.witness.partitions)
    ahead.kill()
    behind.start()
    kafka.wait_until_ready()
    if kafka.leader_of(world.topic) is not behind:
        raise TruthFailed("the replica that had fallen behind did not become the leader")
    _stands_still(world, before, _LOST)
    row.done["led by a replica that had fallen behind: refused"] += 1
    ahead.start()
    kafka.wait_until_ready()
    _accept_all(world, before)
    world.write()
    world.ingest()
    _check_generations(world, before)


def _stands_still(world: World, before: dict[int, Record], saying: str) -> None:
    """Nothing is read, nothing overwritten, and it's said."""
    entries = world.entries()
    world.refused(saying=saying)
    if world.entries() != entries:
        raise TruthFailed("an ingest that was refused committed something")
    problems = world.status()["unreadable"]
    if saying == _LOST and not all(
        any(f"partition {p} " in text and _LOST in text for text in problems) for p in before
    ):
        raise TruthFailed(f"status doesn't say what the broker has lost: {problems}")
    world.check({world.source_id(): before})


def _accept_all(world: World, before: dict[int, Record]) -> None:
    """One partition after the other; it's a problem still that the others wait."""
    waiting = sorted(before)
    while waiting:
        command = world.accept("--partition", str(waiting.pop(0)))
        if command.code != (1 if waiting else 0):
            raise TruthFailed(f"accept ended with {command.code}, {waiting} are left: {command.said()}")
        world.row.done["accepted as a new generation"] += 1


def _check_generations(world: World, before: dict[int, Record]) -> None:
    """What was archived stays; what the broker has now is there too, as the second generation."""
    world.witness = Witness(world.kafka.bootstrap, world.topic)
    world.witness.catch_up()
    world.check({world.source_id(): before, world.source_id(2): world.witness.partitions})


def _send(world: World, events: int, text: bytes, **properties: Any) -> None:
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap, "log_level": 0, **properties})
    for number in range(events):
        producer.produce(world.topic, b"%s %d" % (text, number))
    producer.flush()


def _abort(world: World, events: int) -> None:
    """Leaves holes at the end."""
    producer = Producer(
        {"bootstrap.servers": world.kafka.bootstrap, "transactional.id": world.topic, "log_level": 0}
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    for number in range(events):
        producer.produce(world.topic, b"aborted %d" % number)
    producer.flush()
    producer.abort_transaction(60)
    world.wait_for_transactions()


def _back_up(world: World) -> Any:
    (node,) = world.kafka.nodes
    node.stop()
    backup = world.folder / "backup"
    shutil.copytree(node.data_folder, backup)
    node.start()
    world.kafka.wait_until_ready()
    return backup


def _put_back(world: World, backup: Any) -> None:
    (node,) = world.kafka.nodes
    node.stop()
    shutil.rmtree(node.data_folder)
    shutil.copytree(backup, node.data_folder)
    node.start()
    world.kafka.wait_until_ready()
