"""The rows of the campaign, one kind of damage each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign.recompute import any_history
from campaign.report import RowReport
from campaign.rows import answers, brokers, clock, crash_points, damaged, disk, frozen, killed, less, topics
from campaign.truth import TruthFailed
from demo.kafka.node import KafkaDidNotStart

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.world import Campaign


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the campaign."""

    number: int
    title: str
    parts: tuple[Callable[[Campaign, RowReport], None], ...]
    """Each does its damage to worlds of its own."""
    needs_broker: bool = True

    def report(self, campaign: Campaign) -> RowReport:
        """Runs all parts; the report says if the archive did not stand one of them."""
        report = RowReport(self.number, self.title)
        started = time.monotonic()
        try:
            for part in self.parts:
                part(campaign, report)
        except (TruthFailed, KafkaDidNotStart) as error:
            report.failure = str(error)
        report.seconds = time.monotonic() - started
        return report


ROWS = (
    Row(1, "an ingest is killed at random moments while producers write", (killed.kill_one,)),
    Row(2, "two and three ingests at once, killed at random moments", (killed.kill_several,)),
    Row(
        3, "an ingest is frozen in the middle of a commit, another takes over, it wakes up", (frozen.freeze,)
    ),
    Row(4, "brokers restart, and leaders are lost", (brokers.restart, brokers.lose_leaders)),
    Row(5, "the disk is full", (disk.limit_files, disk.fill)),
    Row(
        6,
        "events are deleted, the topic is made anew, partitions are added, a transaction stays open",
        (
            topics.delete_between_ingests,
            topics.delete_under_follow,
            topics.let_retention_delete,
            topics.make_anew,
            topics.add_partitions,
            topics.leave_transaction_open,
        ),
    ),
    Row(7, "the clock jumps back a day", (clock.jump,)),
    Row(
        8,
        "the broker has less than the archive, or other events in their place",
        (less.restore, less.restore_under_follow, less.restore_behind_holes, less.elect_uncleanly),
    ),
    Row(
        9,
        "the answer to a commit is lost, the ingest dies around it, first writers race",
        (answers.lose_answers, answers.create_at_once),
    ),
    Row(
        10,
        "an operation is stopped before each call that changes a file",
        (crash_points.kill,),
        needs_broker=False,
    ),
    Row(
        11,
        "each call that changes a file fails, the disk is full",
        (crash_points.refuse,),
        needs_broker=False,
    ),
    Row(
        12,
        "the power is cut at each moment, and all that was not synced is lost",
        (crash_points.cut_power,),
        needs_broker=False,
    ),
    Row(
        13,
        "an archive is damaged: bits flipped, files cut, swapped, dropped, forged, aged",
        (damaged.flip, damaged.mangle, damaged.cut_off, damaged.forge, damaged.age),
        needs_broker=False,
    ),
    Row(
        14,
        "tables are refreshed in any steps from an archive that grows in any way",
        (any_history,),
        needs_broker=False,
    ),
)
