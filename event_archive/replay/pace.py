"""No more than so many events per second."""

from __future__ import annotations

import time

from event_archive.replay.events import ROWS_A_BLOCK


class Pace:
    """Says how long to wait before the next events."""

    def __init__(self, events_per_second: float | None) -> None:
        self._events_per_second = events_per_second
        self._next_at = time.monotonic()
        self.events = 0
        """How many it was asked about."""

    @property
    def rows_a_block(self) -> int:
        """How many events to take at a time: those of a quarter of a second, so that they flow evenly."""
        if self._events_per_second is None:
            return ROWS_A_BLOCK
        return max(1, min(int(self._events_per_second / 4), ROWS_A_BLOCK))

    def wait_seconds(self, events: int) -> float:
        """How long to wait before so many events are written. Time that was lost before is not made up for."""
        self.events += events
        if self._events_per_second is None:
            return 0.0
        now = time.monotonic()
        at = max(self._next_at, now)
        self._next_at = at + events / self._events_per_second
        return at - now
