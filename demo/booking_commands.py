"""What can be asked of the flight booking service; what it answers is decided in `booking_decisions.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from demo.schedule import ScheduledFlight

if TYPE_CHECKING:
    from datetime import datetime

Event = dict[str, Any]

NEXT_SCHEMA_VERSION: Literal[3] = 3


@dataclass(frozen=True, slots=True)
class Book:
    """Buy one seat."""

    flight_id: str
    passenger_id: str
    seat: str
    price_cents: int


@dataclass(frozen=True, slots=True)
class ChangeSeat:
    """Move a booking to another seat of its flight."""

    booking_id: str
    to_seat: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give a booking's seat back."""

    booking_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckIn:
    """Check a booking in."""

    booking_id: str


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Move a flight to another time."""

    flight_id: str
    departs_at: datetime
    reason: str


# A flight is opened for booking by its place in the schedule.
Command = ScheduledFlight | Book | ChangeSeat | Cancel | CheckIn | Reschedule


@dataclass(frozen=True, slots=True)
class Request:
    """A command on its way in.

    Attributes:
        command: What is asked for.
        occurred_at: The clock of the server that took it, with its offset.
        schema_version: The version of the service on that server; 3 is the coming one, being tried out.
        note: Free text to keep with the event.
    """

    command: Command
    occurred_at: datetime
    schema_version: Literal[1, 2, 3] = 2
    note: str | None = None
