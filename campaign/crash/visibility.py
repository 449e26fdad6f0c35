"""No commit is visible before all that it names is durable: read off a real trace, not off our own code.

What doesn't live here: what durable means (`lossy_disk`).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campaign.crash.calls import SENT
from campaign.crash.lossy_disk import LossyDisk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from campaign.crash.calls import Call

_ENTRY = re.compile(r"(.*)/_delta_log/([0-9]{20})\.json")
_GIVES_A_NAME = ("link", "linkat", "rename", "renameat", "renameat2", "open", "openat", "creat")


@dataclass(slots=True)
class Seen:
    """What a trace shows of its commits."""

    commits: list[str] = field(default_factory=list)
    """Entries in the order in which they became visible."""
    files: int = 0
    """Files that they name."""
    faults: list[str] = field(default_factory=list)
    """What was visible, or acknowledged, too early."""


def watch(calls: Iterable[Call], traced: Path, before: Path) -> Seen:
    """Follows the commits of a trace.

    Args:
        calls: of one operation.
        traced: the folder that it worked on.
        before: a copy of that folder from before.
    """
    disk = LossyDisk(before)
    seen = Seen()
    for call in calls:
        disk.play(call, traced)
        if call.name == SENT:
            # A commit that was acknowledged is durable under its name.
            for entry in seen.commits:
                seen.faults += [
                    f"{entry} was acknowledged before {missing}" for missing in disk.missing_syncs(entry)
                ]
        if call.name in _GIVES_A_NAME and not call.error and call.changes(traced):
            entry = os.path.relpath(call.paths[-1], traced)
            if found := _ENTRY.fullmatch(entry):
                seen.commits.append(entry)
                _look(disk, entry, found[1], seen)
    return seen


def _look(disk: LossyDisk, entry: str, table: str, seen: Seen) -> None:
    file = disk.file(entry)
    if file is None or not file.is_durable or not file.content:
        seen.faults.append(f"{entry} was visible before its own bytes were durable")
        return
    for name in _named(file.content):
        seen.files += 1
        path = f"{table}/{name}"
        seen.faults += [f"{entry} was visible before {missing}" for missing in disk.missing_syncs(path)]


def _named(entry: bytes) -> Iterator[str]:
    """Files that an entry needs: those that it adds, and those that it has sealed."""
    for line in entry.splitlines():
        action: dict[str, Any] = json.loads(line)
        if "add" in action:
            yield action["add"]["path"]
        sealed = action.get("commitInfo", {}).get("eventArchive", {}).get("sealed") or {}
        yield from (sealed[key] for key in ("segment", "state", "checkpoint") if sealed.get(key))
