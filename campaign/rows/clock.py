"""Row 7: the clock jumps back a day while an ingest works: our own clock, not that of the client library."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campaign.ingesters import Command
    from campaign.report import RowReport
    from campaign.world import Campaign, World

_DAY_SECONDS = 86_400.0
_QUESTIONS = 12  # for the time, before it jumps: some commits


def jump(campaign: Campaign, row: RowReport) -> None:
    """The ingest's own clock goes back in the middle of its work; the next ingest's is right again.

    Raises:
        TruthFailed: something is lost or doubled, or the clock did not jump.
    """
    for _ in range(campaign.settings.rounds):
        world = campaign.world(row)
        with world.producing() as producers:
            command = world.start_following(
                [{"do": "jump", "after_calls": _QUESTIONS, "seconds": -_DAY_SECONDS}]
            )
            _wait_for_days(world, 2, command)
            _go_on(world, command)
        row.done["the ingest's clock went back a day, the next ingest's was right again"] += 1
        world.finish([producers])


def _go_on(world: World, command: Command) -> None:
    world.wait_for_entries(1, by=command)
    command.end_well()


def _wait_for_days(world: World, days: int, command: Command) -> None:
    """Until commits have been made on so many dates."""
    world.wait_until(
        lambda: len(list(world.table.glob("ingest_date=*"))) == days, f"commits of {days} days", by=command
    )
