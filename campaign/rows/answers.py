"""Row 9: a commit lands, but nobody hears of it; and several first writers create the table at once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from campaign.faults import LANDED, MOMENTS
from campaign.rows.rounds import every_round
from campaign.truth import TruthFailed

if TYPE_CHECKING:
    from campaign.faults import Fault
    from campaign.report import RowReport
    from campaign.world import Campaign, World

_WRITERS = 5


def lose_answers(campaign: Campaign, row: RowReport) -> None:
    """The answer is an I/O error though the commit landed; the process dies around it.

    Raises:
        TruthFailed: what landed is archived again, or what didn't is missing.
    """
    world = campaign.world(row)
    with world.producing() as producers:
        world.ingest()  # so that each entry from here on is a commit of events
        for number in range(campaign.settings.rounds):
            for moment in LANDED:
                _fail(world, {"moment": moment, "do": "fail", "entry": 1 + number % 3})
                _fail_following(world, {"moment": moment, "do": "fail", "entry": 1 + number % 2})
            for moment in MOMENTS:
                _die(world, {"moment": moment, "do": "die", "entry": 1 + number % 3})
    world.finish([producers])


def _fail(world: World, fault: Fault) -> None:
    world.wait_for_backlog(450)
    before = world.entries()
    world.refused(saying="Input/output error", faults=[fault])
    if world.entries() != before + fault["entry"]:
        raise TruthFailed("the commit whose answer was lost did not land, or another came after it")
    world.row.done["answer to a landed commit lost; a later ingest goes on"] += 1


def _fail_following(world: World, fault: Fault) -> None:
    before = world.entries()
    command = world.start_following([fault])
    world.wait_until(lambda: "Input/output error" in command.said(), "word of the I/O error", by=command)
    landed = world.entries()
    world.wait_for_entries(1, than=max(landed, before + fault["entry"]), by=command)
    command.end_well()
    world.row.done["answer to a landed commit lost; the same ingest goes on"] += 1


def _die(world: World, fault: Fault) -> None:
    world.wait_for_backlog(450)
    before = world.entries()
    command = world.start_ingest([fault])
    if command.wait() != -signal.SIGKILL:
        raise TruthFailed(f"an ingest ended with {command.code} before it could die: {command.said()}")
    landed = fault["entry"] - (fault["moment"] not in LANDED)
    if world.entries() != before + landed:
        raise TruthFailed(
            f"{world.entries() - before} commits instead of {landed} when the ingest died {fault['moment']}"
        )
    world.row.done[f"died {fault['moment']}"] += 1


@every_round
def create_at_once(campaign: Campaign, row: RowReport) -> None:
    """Several first writers come to the first commit together.

    Raises:
        TruthFailed: one of them fails, or something is lost or doubled.
    """
    world = campaign.world(row)
    with world.producing() as producers:
        world.wait_for_backlog(150)
    meeting = world.folder / "meeting"
    meeting.mkdir()
    fault: Fault = {
        "moment": "before link",
        "do": "meet",
        "entry": 0,
        "folder": str(meeting),
        "parties": _WRITERS,
    }
    commands = [world.start_ingest([fault]) for _ in range(_WRITERS)]
    codes = [command.wait() for command in commands]
    if any(codes):
        raise TruthFailed(f"a first writer failed: {[command.said() for command in commands]}")
    if len(list(meeting.iterdir())) != _WRITERS:
        raise TruthFailed("the writers did not meet before the first commit")
    row.done[f"{_WRITERS} first writers create the table at once"] += 1
    world.finish([producers])
