"""Row 7: the clock jumps back a day while an ingest works, and forward again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
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


def jump_really(campaign: Campaign, row: RowReport) -> None:
    """The clock of the whole process goes back and forward, librdkafka's too, where libfaketime is installed.

    Raises:
        TruthFailed: something is lost or doubled, or the clock did not jump.
    """
    library = _libfaketime()
    if library is None:
        row.done["libfaketime is not installed: the clock of a whole process did not jump"] = 1
        return
    for _ in range(campaign.settings.rounds):
        _jump_really(campaign, row, library)


def _jump_really(campaign: Campaign, row: RowReport, library: Path) -> None:
    world = campaign.world(row)
    clock = world.folder / "clock"
    clock.write_text("+0d\n")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the kernel's doesn't jump either
    }
    with world.producing() as producers:
        command = world.start_following(environment=environment)
        world.wait_for_entries(2, than=0, by=command)
        _set(clock, "-1d")
        _wait_for_days(world, 2, command)
        _set(clock, "+1d")
        _wait_for_days(world, 3, command)
        _go_on(world, command)
    row.done["the clock of the whole process went back a day and forward two (libfaketime)"] += 1
    world.finish([producers])


def _set(clock: Path, text: str) -> None:
    beside = clock.with_suffix(".new")
    beside.write_text(text + "\n")
    os.replace(beside, clock)  # noqa: PTH105 - at once, for a reader that never waits


def _go_on(world: World, command: Command) -> None:
    world.wait_for_entries(1, by=command)
    command.end_well()


def _wait_for_days(world: World, days: int, command: Command) -> None:
    """Until commits have been made on so many dates."""
    world.wait_until(
        lambda: len(list(world.table.glob("ingest_date=*"))) == days, f"commits of {days} days", by=command
    )


def _libfaketime() -> Path | None:
    program = shutil.which("faketime")
    if program is None:
        return None
    found = Path(program).parents[1].glob("lib/**/faketime/libfaketimeMT.so.1")
    return next(iter(sorted(found)), None)
