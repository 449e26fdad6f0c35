"""How much the campaign does. What doesn't live here: how each row understands it (`rows`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Parameters of a run."""

    kills: int = 100
    """In each of the rows 1 and 2."""
    rounds: int = 10
    """Of each fault of the other rows."""
    seconds: float = 3.0
    """How long producers write between two faults of the rows 6 and 8."""
    seed: int = 1
    flips: int = 10_000
    """Bits in row 13."""
    histories: int = 20_000
    """In row 14."""


QUICK = Settings(kills=20, rounds=2, seconds=0.7, flips=300, histories=100)
"""What the tests do."""
