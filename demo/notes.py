"""Free text that some events carry in `note`, a field that consumers don't know; now and then it's a megabyte."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

SHARE = 0.01
EVENTS_PER_HUGE_NOTE = 25_000
MOST_HUGE_NOTES = 20
FIRST_HUGE_NOTE = 1_000
HUGE_NOTE_CHARACTERS = 1 << 20

NOTES = (
    "window, please",
    "Frühstück: vegetarisch",
    "travelling with a cello",
    'said "as near to the exit as you can"',
    "乗り継ぎが短い",
    "birthday on board 🎂",
    "C:\\bookings\\import\\7.csv",
    "two lines\nof text",
)


class Notes:
    """Hands out the notes of one stream's events.

    Args:
        events: How many events there will be; huge notes are rarer in long streams.
        rng: Decides who writes what.
    """

    def __init__(self, events: int, rng: random.Random) -> None:
        self._rng = rng
        self._left = FIRST_HUGE_NOTE
        self._distance = max(EVENTS_PER_HUGE_NOTE, events // MOST_HUGE_NOTES)

    def next(self) -> str | None:
        """Return the next event's note, if it has one."""
        self._left -= 1
        if self._left <= 0:
            self._left = self._distance
            return self._huge()
        return self._rng.choice(NOTES) if self._rng.random() < SHARE else None

    def _huge(self) -> str:
        words = self._rng.choices(NOTES, k=1_000)
        text = " ".join(words)
        return text * (HUGE_NOTE_CHARACTERS // len(text) + 1)
