"""What is tried at every crash point: an operation, the folder that it works on, and when that folder is in order.

To add one: a module with the three functions of `Operation`, and its name in `operations`. What doesn't live here: what is done to
operations (`points`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

Fact = dict[str, Any]
"""Something that an operation acknowledged: once it is said, it must hold for ever."""

Acknowledge = Callable[[Fact], None]


After = Literal["a crash", "success", "recovery"]
"""When a folder is looked at: anything may be unfinished; all must be done, though a call may have failed; nothing may be left over."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that users do, which a crash or a failing disk may interrupt."""

    name: str
    prepare: Callable[[Path], None]
    """Makes the folder that it works on; everything in it counts as durable."""
    run: Callable[[Path, Acknowledge], None]
    """Does it, and what a user would do after it was interrupted: run it again."""
    check: Callable[[Path, Sequence[Fact], After], int]
    """Raises `TruthFailed` unless the folder is readable, holds all that was acknowledged, and is as it must be after that. Returns how
    many events or rows it compared.
    """


def operations() -> dict[str, Operation]:
    """All of them, by name."""
    from campaign.crash import copied, ingesting, keeping, publishing

    found = (module.OPERATIONS for module in (ingesting, keeping, copied, publishing))
    return {operation.name: operation for some in found for operation in some}
