"""What customers of the booking service can see: flights on sale, free seats, and their own bookings; it learns from events alone.

What customers do with it is in `booking_customers.py`.
"""

from __future__ import annotations

import itertools
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

from demo.booking_commands import NEXT_SCHEMA_VERSION
from demo.history import DAY_US, HOUR_US
from demo.schedule import ScheduledFlight, seat_label

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from demo.booking_commands import Event

CHECK_IN_OPENS_US = 24 * HOUR_US


class Flight:
    """A flight as customers see it; bookings that nobody will touch again aren't in its lists."""

    __slots__ = (
        "cancelled",
        "capacity",
        "checked_in",
        "confirmed",
        "departs_us",
        "free",
        "id",
        "popularity",
        "price_cents",
        "returned",
        "undecodable",
    )

    def __init__(self, scheduled: ScheduledFlight, rng: random.Random) -> None:
        self.id = scheduled.flight_id
        self.departs_us = int(scheduled.departs_at.timestamp()) * 1_000_000
        self.capacity = scheduled.capacity
        self.popularity = rng.lognormvariate(0, 0.45)
        self.price_cents = rng.randint(6_000, 60_000)
        self.free = [seat_label(number) for number in range(scheduled.capacity)]
        self.returned: set[str] = set()  # free again: somebody had them
        self.confirmed: list[str] = []
        self.checked_in: list[str] = []
        self.cancelled: list[str] = []
        self.undecodable: list[str] = []


class FlightBoard:
    """All flights that somebody may still ask about.

    Args:
        rng: Decides how popular flights are, and picks among them.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.flights: dict[str, Flight] = {}
        self.departed: deque[Flight] = deque(maxlen=20)
        self._on_sale: list[Flight] = []
        self._sale_weights: list[float] = []
        self._boarding: list[Flight] = []
        self._boarding_weights: list[float] = []

    def open(self, flights: Sequence[ScheduledFlight]) -> None:
        """Put flights on sale."""
        for scheduled in flights:
            flight = Flight(scheduled, self._rng)
            self.flights[flight.id] = flight
            self._on_sale.append(flight)

    def look(self, now_us: int) -> None:
        """Weigh what customers find now: near departures and popular flights sell more."""
        for flight in self._on_sale:
            if flight.departs_us <= now_us:
                self.departed.append(flight)
        self._on_sale = [flight for flight in self._on_sale if flight.departs_us > now_us]
        self._sale_weights = list(
            itertools.accumulate(
                flight.capacity * flight.popularity / (1.0 + (flight.departs_us - now_us) / DAY_US)
                for flight in self._on_sale
            )
        )
        self._boarding = [
            flight
            for flight in self._on_sale
            if flight.confirmed and flight.departs_us - now_us < CHECK_IN_OPENS_US
        ]
        self._boarding_weights = list(
            itertools.accumulate(float(len(flight.confirmed)) for flight in self._boarding)
        )

    def on_sale(self) -> Flight:
        """Pick a flight that sells."""
        (flight,) = self._rng.choices(self._on_sale, cum_weights=self._sale_weights)
        return flight

    def boarding(self) -> Flight | None:
        """Pick a flight that can be checked in to, if there is one."""
        if not self._boarding:
            return None
        (flight,) = self._rng.choices(self._boarding, cum_weights=self._boarding_weights)
        return flight

    def forget_departed_before(self, moment_us: int) -> list[Flight]:
        """Take the flights off the board that departed before this moment, and return them."""
        gone = [flight for flight in self.flights.values() if flight.departs_us < moment_us]
        for flight in gone:
            del self.flights[flight.id]
        return gone

    def learn(self, event: Event) -> None:
        """Follow what the service decided."""
        flight = self.flights.get(event.get("flight_id") or "")
        if flight is None:
            return
        match event["event_type"]:
            case "booking_confirmed":
                flight.free.remove(event["seat"])
                of_today = event["schema_version"] != NEXT_SCHEMA_VERSION
                (flight.confirmed if of_today else flight.undecodable).append(event["booking_id"])
            case "seat_changed":
                flight.free.remove(event["to_seat"])
                self._return(flight, event["from_seat"])
            case "booking_cancelled":
                self._return(flight, event["seat"])
                flight.cancelled.append(event["booking_id"])
            case "checked_in":
                flight.checked_in.append(event["booking_id"])
            case "flight_rescheduled":
                flight.departs_us = int(datetime.fromisoformat(event["departs_at"]).timestamp() * 1_000_000)

    def _return(self, flight: Flight, seat: str) -> None:
        flight.free.append(seat)
        flight.returned.add(seat)
