"""Row 3: an ingest stands still in the middle of a commit, a second one takes over, the first wakes up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from campaign.archive_record import logged_files
from campaign.faults import LANDED, MOMENTS
from campaign.truth import TruthFailed

if TYPE_CHECKING:
    import random

    from campaign.faults import Fault, Moment
    from campaign.ingesters import Command
    from campaign.report import RowReport
    from campaign.world import Campaign, World

LOST = "another commit to this stream came first"
_DELAY_SECONDS = 0.006


def freeze(campaign: Campaign, row: RowReport) -> None:
    """At exact moments around the call that makes a commit visible, and at moments found by watching an unchanged process.

    Raises:
        TruthFailed: the one that woke up committed what the other had, or did not notice.
    """
    generator = campaign.random(row)
    world = campaign.world(row)
    with world.producing() as producers:
        world.ingest()
        for number in range(campaign.settings.rounds):
            for moment in MOMENTS:
                _freeze_exactly(world, moment, follows=number % 2 == 1)
            for _ in range(2):
                _freeze_watched(world, generator)
    world.finish([producers])


def _freeze_exactly(world: World, moment: Moment, *, follows: bool) -> None:
    world.wait_for_backlog(100)
    faults: list[Fault] = [{"moment": moment, "do": "stop", "entry": 1}]
    first = world.start_following(faults) if follows else world.start_ingest(faults)
    if not first.wait_frozen():
        raise TruthFailed(f"an ingest ended with {first.code} before it could be frozen: {first.said()}")
    _take_over(world)
    _wake(world, first, follows=follows)
    if moment not in LANDED and LOST not in first.said():
        raise TruthFailed(
            f"an ingest that had lost its commit while it was frozen didn't say so: {first.said()!r}"
        )
    world.row.done[f"frozen {moment}"] += 1


def _freeze_watched(world: World, generator: random.Random) -> None:
    """Freezes an unchanged process once there is a trace of its next commit."""
    world.wait_for_backlog(100)
    known = world.written()
    first = world.start_following()
    if not world.wait_for_commit(known, first):
        raise TruthFailed(f"an ingest that follows ended with {first.code}: {first.said()}")
    time.sleep(generator.uniform(0, _DELAY_SECONDS))
    first.freeze()
    first.wait_frozen()
    world.row.done[f"frozen by watching its files: {_where(world)}"] += 1
    _take_over(world)
    _wake(world, first, follows=True)
    world.row.done["woke up and said that it had lost its commit"] += LOST in first.said()


def _where(world: World) -> str:
    """Where in a commit the one process stands that works on the table."""
    logged, _ = logged_files(world.table)
    known = {name.rpartition("/")[2] for name in logged}
    links = [path.stat().st_nlink for path in (world.table / "_delta_log").glob("_commit_*.tmp")]
    if links:
        return (
            "its log entry is written and not yet linked"
            if max(links) == 1
            else "its log entry has just been linked"
        )
    if any(path.name not in known for path in world.table.glob("*/*.parquet")):
        return "its data file is there and no entry for it"
    return "right after its commit"


def _take_over(world: World) -> None:
    before = world.entries()
    world.wait_for_backlog(100)
    world.ingest()
    if world.entries() <= before:
        raise TruthFailed("the second ingest committed nothing, so the first was in no danger")


def _wake(world: World, first: Command, *, follows: bool) -> None:
    before = world.entries()
    first.thaw()
    if follows:
        world.wait_for_entries(1, than=before, by=first)
        code = first.end()
    else:
        code = first.wait()
    if code != 0:
        raise TruthFailed(f"an ingest that was frozen ended with {code}: {first.said()}")
