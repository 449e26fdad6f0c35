"""Row 4: brokers end, cleanly and by `kill -9`, and come back; in a cluster of three the leader goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campaign.ingesters import Command
    from campaign.report import RowReport
    from campaign.world import Campaign, World
    from demo.kafka.broker import Kafka

_PATIENCE_SECONDS = 2  # of the ingest, less than the broker is away
_RATE = 600


def restart(campaign: Campaign, row: RowReport) -> None:
    """The only broker ends and comes back while one ingest follows and producers wait for acknowledgements.

    Raises:
        TruthFailed: something is lost or doubled, or the ingest gave up.
    """
    kafka = campaign.start_kafka()
    (node,) = kafka.nodes
    world = campaign.world(row, kafka=kafka, timeout_seconds=_PATIENCE_SECONDS)
    with world.producing(events_per_second=_RATE) as producers:
        command = world.start_following()
        world.wait_for_entries(2, than=0, by=command)
        for _ in range(campaign.settings.rounds):
            node.stop()
            world.refused(saying="Check that the brokers run")
            world.wait_until(lambda: "Trying again" in command.said(), "word of the broker", by=command)
            node.start()
            world.wait_for_entries(1, by=command)
            row.done["broker stopped and started; the same ingest goes on"] += 1
            node.kill()
            node.start()
            world.wait_for_entries(1, by=command)
            row.done["broker killed and started; the same ingest goes on"] += 1
        command.end_well()
    world.finish([producers])


def lose_leaders(campaign: Campaign, row: RowReport) -> None:
    """The leader of a partition is killed, in a cluster of three; the producers wait for all replicas.

    Raises:
        TruthFailed: something is lost or doubled, the ingest gave up, or forgets a partition that had no leader.
    """
    kafka = campaign.start_kafka(nodes=3)
    world = campaign.world(row, kafka=kafka, timeout_seconds=_PATIENCE_SECONDS)
    with world.producing(events_per_second=_RATE) as producers:
        command = world.start_following()
        world.wait_for_entries(2, than=0, by=command)
        for number in range(campaign.settings.rounds):
            leader = kafka.leader_of(world.topic, number % world.partitions)
            leader.kill()
            kafka.wait_until_ready()
            row.done[
                "leader of a partition killed, in a cluster of three; the same ingest goes on without it"
            ] += 1
            _goes_on(world, command, partition=number % world.partitions)
            leader.start()
            kafka.wait_until_ready()
        command.end_well()
    world.finish([producers])
    _begin_without_leader(campaign, row, kafka)


def _begin_without_leader(campaign: Campaign, row: RowReport, kafka: Kafka) -> None:
    """A partition whose only replica is away when an ingest begins is read once it is back; the others meanwhile."""
    away, there, _ = kafka.nodes
    world = campaign.world(
        row,
        kafka=kafka,
        topic_config={"min.insync.replicas": 1},
        replicas=[[away.id], [there.id]],
        timeout_seconds=_PATIENCE_SECONDS,
    )
    world.write()
    high = world.high()
    away.stop()
    command = world.start_following()
    world.wait_until(lambda: "partition 0 has no leader" in command.said(), "word of the leader", by=command)
    world.wait_until(lambda: world.positions().get(1) == high[1], "the other partition", by=command)
    away.start()
    kafka.wait_until_ready()
    world.write()
    high = world.high()
    world.wait_until(lambda: world.positions() == high, "the partition that had no leader", by=command)
    command.end_well()
    row.done["an ingest began while a partition had no leader, and read it later"] += 1
    world.finish()


def _goes_on(world: World, command: Command, *, partition: int) -> None:
    """Waits until what is there now of a partition is archived."""
    wanted = world.high()[partition]
    world.wait_until(
        lambda: world.positions().get(partition, 0) >= wanted,
        f"partition {partition} at {wanted}",
        by=command,
    )
