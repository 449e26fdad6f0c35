"""Rows 10 to 12: each operation is stopped, refused or robbed of what was not synced, at each call that changes a file.

No broker is needed. What doesn't live here: what is tried and how (`campaign.crash`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from campaign.crash.operations import operations
from campaign.crash.strace import why_not
from campaign.truth import TruthFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from campaign.report import RowReport
    from campaign.world import Campaign

_PARTS = 4


def kill(_campaign: Campaign, row: RowReport) -> None:
    """Stopped hard before each call.

    Raises:
        TruthFailed: an operation didn't stand a point.
    """
    _try(row, ["kill"], "stopped before a call")


def refuse(_campaign: Campaign, row: RowReport) -> None:
    """Each call fails, once with an I/O error, once because the disk is full.

    Raises:
        TruthFailed: an operation didn't stand a point.
    """
    _try(row, ["EIO", "ENOSPC"], "a call failed")


def cut_power(_campaign: Campaign, row: RowReport) -> None:
    """Each folder that a power cut may leave, rebuilt from the trace.

    Raises:
        TruthFailed: an operation didn't stand a point.
    """
    _try(row, ["power"], "a folder as a power cut leaves it")


def _try(row: RowReport, faults: Sequence[str], told: str) -> None:
    if reason := why_not():
        raise TruthFailed(f"this row needs strace: {reason}")
    works = [
        (name, fault, part) for name in operations() for fault in faults for part in range(1, _PARTS + 1)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda work: _run(*work), works))
    failures = []
    for (name, _, _), answer in zip(works, found, strict=True):
        tally = answer["tally"]
        row.done[f"{name}: {told}"] += tally["tried"]
        row.comparisons += tally["tried"]
        row.events += tally["compared"]
        row.acknowledged += tally["acknowledged"]
        for how, count in tally["ended"].items():
            row.done[f"… that ended the operation like this: {how}"] += count
        row.done["… of these not where it was meant, since threads don't always run alike"] += (
            tally["elsewhere"] + tally["missed"]
        )
        failures += [f"{name}: {failure}" for failure in (*tally["failures"], *answer["seen"]["faults"])]
    if failures:
        raise TruthFailed(f"{len(failures)} points, the first ones: {'; '.join(failures[:3])}")


def _run(name: str, fault: str, part: int) -> dict[str, Any]:
    """In a process of its own, which forks."""
    command = [
        sys.executable,
        "-m",
        "campaign.crash",
        name,
        "--fault",
        fault,
        "--part",
        f"{part}/{_PARTS}",
        "--brief",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise TruthFailed(f"{name}, {fault}: {done.stderr[-2000:]}") from None
    return answer
