"""Each call of an operation that changes something, once: stop the process there, or let the call fail; recover; check everything.

And each moment between two such calls: the folder that a power cut would leave. What doesn't live here: operations (`operations`).
"""

from __future__ import annotations

import json
import os.path
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from campaign.crash import tracing
from campaign.crash.calls import SENT, Call, read_calls
from campaign.crash.lossy_disk import WAYS, LossyDisk
from campaign.crash.tracing import BROKE, HUNG, KILLED, RETURNED, Ended
from campaign.crash.visibility import Seen, watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from campaign.crash.operations import Fact, Operation

_Item = TypeVar("_Item")
Fault = Literal["kill", "EIO", "ENOSPC", "power"]
FAULTS: tuple[Fault, ...] = ("kill", "EIO", "ENOSPC", "power")
"""Stopped hard before the call; the call fails once; it and all of its name fail from there on; the power is cut before the call."""

_STAY_FULL = ("write", "pwrite64", "link", "mkdir", "rename", "fsync", "fdatasync", "symlink", "ftruncate")
"""Calls that go on failing on a full disk. If opening did, nothing could be read any more."""


_SYNCING = ("fsync", "fdatasync")


class OperationFailed(Exception):
    """An operation doesn't work even if nobody disturbs it."""


@dataclass(slots=True)
class Tally:
    """What was tried."""

    calls: int = 0
    """Calls of the undisturbed operation that change something."""
    possible: int = 0
    """Points that there are: those calls; of power cuts, the different folders that they may leave."""
    tried: int = 0
    hit: Counter[str] = field(default_factory=Counter)
    """Where the fault came about, in words."""
    elsewhere: int = 0
    """Where it came about outside of the folder, or in a call that changes nothing: threads don't always run alike."""
    missed: int = 0
    """Where the operation ended before it came to the call."""
    ended: Counter[str] = field(default_factory=Counter)
    """How the disturbed operation ended."""
    compared: int = 0
    """Events or rows that were compared, all points together."""
    acknowledged: int = 0
    """What was acknowledged before the fault, and looked up after it."""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it, for another process."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """An operation that nobody disturbed, call by call."""

    before: Path
    """The folder as it was before; never worked on."""
    folder: Path
    """The folder in which it was done."""
    calls: list[Call]
    first_thread: int

    def changing(self) -> list[Call]:
        """Those that change something in the folder."""
        return [call for call in self.calls if call.changes(self.folder)]


def observe(operation: Operation, place: Path) -> Undisturbed:
    """Does an operation under strace without disturbing it.

    Args:
        operation: what to do.
        place: an empty folder for everything.

    Raises:
        OperationFailed: it fails, or what it leaves is not in order.
    """
    before, folder, trace = place / "before", place / "undisturbed", place / "undisturbed.trace"

    def prepare(_: Any) -> None:
        before.mkdir()
        operation.prepare(before)

    _expect(tracing.run(prepare), "can't be prepared")
    shutil.copytree(before, folder, symlinks=True)
    done = _expect(
        tracing.run(lambda say: operation.run(folder, say), trace=trace, options=tracing.everything()),
        "fails",
    )
    _expect(
        tracing.run(lambda _: operation.check(folder, done.acknowledged, "recovery")),
        "isn't in order afterwards",
    )
    return Undisturbed(before, folder, read_calls(trace), done.pid)


def commits_seen(undisturbed: Undisturbed) -> Seen:
    """What the trace shows of when commits became visible."""
    return watch(undisturbed.calls, undisturbed.folder, undisturbed.before)


def try_points(
    operation: Operation,
    undisturbed: Undisturbed,
    place: Path,
    *,
    fault: Fault,
    part: int = 0,
    parts: int = 1,
    limit: int = 0,
) -> Tally:
    """Tries an operation's points.

    Args:
        operation: what to disturb.
        undisturbed: the same, as it is.
        place: an empty folder for everything.
        fault: what happens at each point.
        part: which part of the points, from 0.
        parts: in how many parts they are split.
        limit: how many points of all parts together, spread evenly; 0 for each.
    """
    started = time.monotonic()
    tally = Tally(calls=len(undisturbed.changing()))
    if fault == "power":
        _cut_power(operation, undisturbed, place, tally, part=part, parts=parts, limit=limit)
    else:
        tally.possible = tally.calls
        for number, call in enumerate(_spread(undisturbed.changing(), limit)[part::parts]):
            folder = place / f"{fault}-{part}-{number}"
            failure = _disturb(operation, undisturbed, call, folder, fault=fault, tally=tally)
            if failure:
                tally.failures.append(
                    f"{fault} at {call.name} {call.number}, {call.told(undisturbed.folder)}: {failure}"
                )
            shutil.rmtree(folder, ignore_errors=True)
    tally.seconds = time.monotonic() - started
    return tally


def _disturb(
    operation: Operation, undisturbed: Undisturbed, call: Call, folder: Path, *, fault: Fault, tally: Tally
) -> str:
    """Why a point is not in order; empty if it is."""
    shutil.copytree(undisturbed.before, folder, symlinks=True)
    trace = folder.with_suffix(".trace")
    what = "signal=SIGKILL" if fault == "kill" else f"error={fault}"
    when = f"{call.number}+" if fault == "ENOSPC" and call.name in _STAY_FULL else str(call.number)
    options = tracing.injecting(call.name, when, fault=what)
    # Each thread counts its calls for itself, so the first one is only told apart by being the only one that is traced.
    is_first = call.thread == undisturbed.first_thread
    ended = tracing.run(
        lambda say: operation.run(folder, say), trace=trace, options=options, all_threads=not is_first
    )
    tally.tried += 1
    tally.ended[ended.how] += 1
    hit = _hit(read_calls(trace), folder, ended, tally)
    trace.unlink()
    # A configuration that can't be read, say, is another matter.
    if ended.how == HUNG or (ended.how == BROKE and hit):
        return ended.said
    if hit and ended.how == RETURNED and hit.name in _SYNCING and os.path.lexists(hit.paths[0]):
        return "ended well though it could not sync, after which nobody knows what is on the disk"
    return _recover(operation, folder, ended.acknowledged, tally, is_done=ended.how == RETURNED)


def _hit(calls: Sequence[Call], folder: Path, ended: Ended, tally: Tally) -> Call | None:
    """The call in which the fault came about, if that changes something in the folder."""
    hit = [call for call in calls if call.is_injected or (call.result is None and ended.how == KILLED)]
    if not hit:
        tally.missed += 1
    elif hit[0].changes(folder):
        tally.hit[hit[0].told(folder)] += 1
        return hit[0]
    else:
        tally.elsewhere += 1
    return None


def _recover(
    operation: Operation, folder: Path, acknowledged: Sequence[Fact], tally: Tally, *, is_done: bool
) -> str:
    """Checks a folder as it is, does the operation again, and checks it once more; why it isn't in order, empty if it is."""

    def work(say: Any) -> int:
        compared = operation.check(folder, acknowledged, "success" if is_done else "a crash")
        facts = list(acknowledged)

        def acknowledge(fact: Fact) -> None:
            facts.append(fact)
            say(fact)

        operation.run(folder, acknowledge)
        return compared + operation.check(folder, facts, "recovery")

    ended = tracing.run(work)
    if ended.how != RETURNED:
        return f"afterwards: {ended.said or ended.how}"
    tally.compared += ended.result
    tally.acknowledged += len(acknowledged)
    return ""


def _cut_power(
    operation: Operation,
    undisturbed: Undisturbed,
    place: Path,
    tally: Tally,
    *,
    part: int,
    parts: int,
    limit: int,
) -> None:
    states = _states(undisturbed)
    tally.possible = len(states)
    for number, state in enumerate(_spread(states, limit)):
        if number % parts == part:
            folder = place / f"power-{number}"
            state.disk_at(undisturbed).write_to(folder, state.way)
            tally.tried += 1
            tally.hit[state.told] += 1
            failure = _recover(operation, folder, state.acknowledged, tally, is_done=False)
            if failure:
                tally.failures.append(f"power cut before {state.told}; {state.way}: {failure}")
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _State:
    """What a power cut would leave."""

    calls: int
    """How many calls of the trace came before it."""
    way: str
    acknowledged: list[Fact]
    told: str

    def disk_at(self, undisturbed: Undisturbed) -> LossyDisk:
        disk = LossyDisk(undisturbed.before)
        for call in undisturbed.calls[: self.calls]:
            disk.play(call, undisturbed.folder)
        return disk


def _states(undisturbed: Undisturbed) -> list[_State]:
    """What a power cut would leave before each call that changes something, and at the end; each only once."""
    disk = LossyDisk(undisturbed.before)
    acknowledged: list[Fact] = []
    states: list[_State] = []
    known: set[tuple[str, int]] = set()

    def note(calls: int, told: str) -> None:
        for way in WAYS:
            mark = (disk.fingerprint(way), len(acknowledged))
            if mark not in known:
                known.add(mark)
                states.append(_State(calls, way, list(acknowledged), told))

    for number, call in enumerate(undisturbed.calls):
        if call.changes(undisturbed.folder):
            note(number, call.told(undisturbed.folder))
        disk.play(call, undisturbed.folder)
        if call.name == SENT:
            acknowledged += _acknowledged(call)
    note(len(undisturbed.calls), "the end")
    return states


def _acknowledged(call: Call) -> Iterator[Fact]:
    for line in call.texts[0].splitlines():
        message = json.loads(line)
        if "acknowledged" in message:
            yield message["acknowledged"]


def _spread(items: Sequence[_Item], limit: int) -> list[_Item]:
    """So many of them, evenly, first and last included; all if there is no limit."""
    if not limit or limit >= len(items):
        return list(items)
    return [items[number * (len(items) - 1) // max(limit - 1, 1)] for number in range(limit)]


def _expect(ended: Ended, otherwise: str) -> Ended:
    if ended.how != RETURNED:
        raise OperationFailed(f"undisturbed, it {otherwise}: {ended.said or ended.how}")
    return ended
