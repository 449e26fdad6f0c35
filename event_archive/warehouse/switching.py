"""Which build readers see: the link that says so, and the list of when it was switched.

What doesn't live here: what a build has to be before it may be switched in (`finish`, `publish`).
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from event_archive import durable
from event_archive.warehouse import layout

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Switch:
    """One time that the link was switched.

    Attributes:
        switched_at: UTC, ISO 8601.
        build_id: What readers have seen since.
        instead_of: What they saw before, or None.
        is_rollback: Whether somebody went back to an older build.
    """

    switched_at: str
    build_id: str
    instead_of: str | None
    is_rollback: bool


def switch_link_to(warehouse: Path, build_id: str, *, is_rollback: bool = False) -> None:
    """Let readers see a build from now on, durably; older readers go on undisturbed. The lock must be held.

    Raises:
        OSError: The disk is full or refused; what was published stays.
    """
    before = layout.current_build_id(warehouse)
    durable.switch_link(
        layout.current_link(warehouse), f"builds/{layout.build_file(warehouse, build_id).name}"
    )
    switch = Switch(datetime.now(UTC).isoformat(), build_id, before, is_rollback)
    try:
        _note(layout.switches_file(warehouse), switch)
    except OSError as error:  # the build is published all the same
        log.warning("The switch to build %s could not be noted: %s", build_id, error)


def read_switches(warehouse: Path) -> list[Switch]:
    """List when the link was switched, oldest first. A line that a power cut has torn is left out."""
    try:
        lines = layout.switches_file(warehouse).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    switches = []
    for line in lines:
        try:
            switch = Switch(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if layout.is_build_id(str(switch.build_id)):
            switches.append(switch)
    return switches


def ever_published(warehouse: Path) -> set[str]:
    """Name all builds that readers have ever seen."""
    seen = {layout.current_build_id(warehouse)}
    for switch in read_switches(warehouse):
        seen |= {switch.build_id, switch.instead_of}
    return {build_id for build_id in seen if build_id is not None}


def when_last_live(warehouse: Path) -> dict[str, int]:
    """For each build that readers have ever seen, a number that grows with the last time that they did."""
    last: dict[str, int] = {}
    for number, switch in enumerate(read_switches(warehouse)):
        if switch.instead_of is not None:
            last[switch.instead_of] = number
        last[switch.build_id] = number
    return last


def published_before(warehouse: Path, build_id: str) -> str | None:
    """Name what was published before a build was, by whoever published it; going back to it doesn't count."""
    came = [switch for switch in read_switches(warehouse) if switch.build_id == build_id]
    forward = [switch.instead_of for switch in came if not switch.is_rollback]
    return forward[-1] if forward else None


def _note(file: Path, switch: Switch) -> None:
    """Not synced: the link is what counts and is durable already; a line that a power cut takes is only missed in lists."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        line = json.dumps(vars(switch)) + "\n"
        os.write(descriptor, (("\n" if is_torn else "") + line).encode())
    finally:
        os.close(descriptor)
