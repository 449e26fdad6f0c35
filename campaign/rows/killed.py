"""Rows 1 and 2: ingests killed with `kill -9` at random moments, alone and several at once, while producers write."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from campaign.archive_record import logged_files
from campaign.truth import TruthFailed

if TYPE_CHECKING:
    import random

    from campaign.ingesters import Command
    from campaign.report import RowReport
    from campaign.world import Campaign, World

_COMMIT_BYTES = 10_000  # many commits to be disturbed
_RATE = 2500
_ANY_TIME = "at a random moment"
_IN_A_COMMIT = "at a random moment after a commit had begun"
_FOLLOWING = "at a random moment while it followed the topic"
_KINDS = {_ANY_TIME: 5, _IN_A_COMMIT: 4, _FOLLOWING: 2}
_COMMIT_SECONDS = 0.006
_FOLLOWING_SECONDS = 2.2
_CHECK_EVERY = 10
_FOLLOWING_SHARE = 0.6
_IDLE_KILLS = 3
_KILL_EVERY_SECONDS = 0.5
_MOST_RACES = 20
_LOST = "another commit to this stream came first"


def kill_one(campaign: Campaign, row: RowReport) -> None:
    """Kills an ingest again and again; the next one goes on from what is left.

    Raises:
        TruthFailed: something is lost or doubled, or the kills fell into no work.
    """
    generator = campaign.random(row)
    world = campaign.world(row, commit_bytes=_COMMIT_BYTES)
    longest = _Longest(0.6)
    with world.producing(events_per_second=_RATE) as producers:
        kills = 0
        while kills < campaign.settings.kills:
            kills += _killed_once(world, generator, longest)
            if kills % _CHECK_EVERY == 0:
                world.archive()  # readable at every moment, by others too
    if world.entries() < campaign.settings.kills / 5:
        raise TruthFailed("the kills came before any work was done")
    world.finish([producers])


def kill_several(campaign: Campaign, row: RowReport) -> None:
    """The same with two, then three ingests of the stream at once: most commits of theirs are races.

    Raises:
        TruthFailed: something is lost or doubled, or no race was lost.
    """
    generator = campaign.random(row)
    for number in (2, 3):
        world = campaign.world(row, commit_bytes=_COMMIT_BYTES)
        commands: list[Command] = []
        with world.producing(events_per_second=_RATE) as producers:
            running = [_start_any(world, generator) for _ in range(number)]
            kills = 0
            while kills < campaign.settings.kills // 2:
                time.sleep(generator.uniform(0, _KILL_EVERY_SECONDS))
                chosen = generator.randrange(number)
                kills += running[chosen].kill()
                commands.append(running[chosen])
                running[chosen] = _start_any(world, generator)
            row.done[f"killed one of {number} ingests at once"] += kills
            for _ in range(_MOST_RACES):
                together = [world.start_ingest() for _ in range(number)]
                commands += together
                codes = [command.wait() for command in together]
                if any(codes):
                    raise TruthFailed(f"an ingest failed: {[command.said() for command in together]}")
                if any(_LOST in command.said() for command in commands):
                    break
                time.sleep(0.5)  # for a backlog to race for
            for command in running:
                command.end()
            commands += running
        lost = sum(command.said().count(_LOST) for command in commands)
        if not lost:
            raise TruthFailed(f"{number} ingests at once never raced for a commit")
        row.done["races lost, as an ingest says that lived on"] += lost
        # SIGTERM ends one that has not come so far as to listen for it.
        if bad := [
            (c.code, c.said()) for c in commands if c.code not in (0, -signal.SIGKILL, -signal.SIGTERM)
        ]:
            raise TruthFailed(f"an ingest failed by itself: {bad}")
        world.finish([producers])


def _start_any(world: World, generator: random.Random) -> Command:
    return world.start_following() if generator.random() < _FOLLOWING_SHARE else world.start_ingest()


class _Longest:
    """How long an ingest may live at most before it is killed: follows the machine's speed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._entries = self._idle = 0

    def adapt(self, *, ended: bool, entries: int) -> None:
        """Shorter if it ended before it was killed, longer if nothing has been committed for a while."""
        self._idle = 0 if entries > self._entries else self._idle + 1
        self._entries = entries
        if ended:
            self.seconds *= 0.8
        elif self._idle >= _IDLE_KILLS:
            self.seconds *= 1.3


def _killed_once(world: World, generator: random.Random, longest: _Longest) -> bool:
    before, known = world.entries(), _leftovers(world)
    kind = generator.choices(list(_KINDS), list(_KINDS.values()))[0]
    follows = kind == _FOLLOWING
    command = world.start_following() if follows else world.start_ingest()
    time.sleep(generator.uniform(0, _FOLLOWING_SECONDS if follows else longest.seconds))
    if kind == _IN_A_COMMIT and world.wait_for_commit(world.written(), command):
        time.sleep(generator.uniform(0, _COMMIT_SECONDS))
    was_killed = command.kill()
    if not follows:
        longest.adapt(ended=not was_killed, entries=world.entries())
    if was_killed:
        world.row.done[f"killed {kind}"] += 1
        _note_moment(world, known, before)
    elif command.code != 0:
        raise TruthFailed(f"an ingest failed by itself with {command.code}: {command.said()}")
    return was_killed


def _leftovers(world: World) -> dict[str, int]:
    """Files that no entry refers to and how many names each of their contents has, as killed ingests leave them."""
    files, _ = logged_files(world.table)
    known = {name.rpartition("/")[2] for name in files}
    found = [*world.table.glob("*/*.parquet"), *(world.table / "_delta_log").glob("_commit_*.tmp")]
    return {path.name: path.stat().st_nlink for path in found if path.name not in known}


def _note_moment(world: World, known: dict[str, int], entries_before: int) -> None:
    """Counts where the kill fell, by what it left."""
    new = {name: links for name, links in _leftovers(world).items() if name not in known}
    if any(name.endswith(".tmp") and links > 1 for name, links in new.items()):
        where = "right after its commit, nothing told yet"
    elif any(name.endswith(".tmp") for name in new):
        where = "with its log entry written and not yet linked"
    elif new:
        where = "while it wrote a data file, or before the entry for it"
    elif world.entries() > entries_before:
        where = "between two commits"
    else:
        where = "before its first commit"
    world.row.done[f"… of these {where}"] += 1
