"""Every operation, disturbed at calls spread evenly over all that change a file: nothing is lost, doubled, changed or left over.

`make campaign` does it at each such call; `python -m campaign.crash OPERATION --fault FAULT` at those of one operation.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from campaign.crash.operations import operations
from campaign.crash.points import FAULTS
from campaign.crash.strace import why_not
from tests.crash.conftest import POINTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MEANT = 0.3
"""Threads don't run alike each time, least of all on a busy machine: of so few points, this share must be where they were meant at least."""


@functools.cache
def reason_to_skip() -> str:
    """Why this machine can't trace."""
    return why_not()


def disturb(operation: str, fault: str, *, points: int) -> dict[str, Any]:
    """Disturbs an operation in a process of its own, which forks."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    options = ["--fault", fault, "--points", str(points), "--brief"]
    done = subprocess.run(
        [sys.executable, "-m", "campaign.crash", operation, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["tally"]["failures"] or found["seen"]["faults"])
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", sorted(operations()))
def test_an_operation_that_is_disturbed_anywhere_loses_nothing_and_can_be_done_again(
    operation: str, fault: str, pytestconfig: pytest.Config
) -> None:
    """Stopped hard, refused once, refused for good, and by a power cut that takes all that was not synced."""
    points = pytestconfig.getoption("--crash-points", POINTS)
    tally = disturb(operation, fault, points=points)["tally"]
    assert tally["failures"] == []
    assert tally["tried"] == min(points or tally["possible"], tally["possible"])
    assert sum(tally["hit"].values()) >= MEANT * tally["tried"]
    assert tally["compared"] > 0


@pytest.mark.parametrize("operation", sorted(set(operations()) - {"publish", "clean"}))
def test_no_commit_is_visible_or_acknowledged_before_all_that_it_names_is_durable(operation: str) -> None:
    """By what the operating system was asked for, in which order: files, the entry's bytes, the name, its folder, and then the word."""
    seen = disturb(operation, "kill", points=1)["seen"]
    assert seen["faults"] == []
    assert seen["commits"]
