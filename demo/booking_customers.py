"""Customers of the flight booking service and what they ask of it, hour by hour; the service alone decides.

Customers only know what the board showed at the last full hour. Two may ask for the same seat, and one is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from demo.booking_commands import (
    NEXT_SCHEMA_VERSION,
    Book,
    Cancel,
    ChangeSeat,
    CheckIn,
    Command,
    Request,
    Reschedule,
)
from demo.flight_board import Flight, FlightBoard
from demo.history import DAY_US, DAYS_ON_SALE, HOUR_US, Clock, History
from demo.notes import Notes
from demo.outlet import Line
from demo.publisher import OutboxEvent, key_of, publish
from demo.schedule import NEW_YORK, Schedule, ScheduledFlight, seat_label

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from demo.booking_service import BookingService
    from demo.delivery import Delivery
    from demo.truth import Truth

SERVERS = ("booking-east", "booking-west")
FIRST_SERVER_SHARE = 0.6

# What customers come for. The confused ask for what can't be.
INTENTS = {
    "book": 0.505,
    "change_seat": 0.06,
    "cancel": 0.055,
    "check_in": 0.355,
    "reschedule": 0.003,
    "confused": 0.022,
}
STALE_SEAT_MAP = 0.02  # the share who choose a seat from a page that has been open for long
CANCEL_REASONS = ("changed plans", "illness", "found cheaper", "visa refused", "no reason given")
RESCHEDULE_REASONS = ("weather", "crew", "aircraft change", "air traffic control", "maintenance")

FORGOTTEN_AFTER_US = 24 * HOUR_US  # nobody asks about a flight that departed so long ago

# Bookings that only the coming schema version tells of.
VERSION_3 = "schema_version_3"
EVENTS_PER_VERSION_3 = 10_000
FEWEST_VERSION_3 = 3
MOST_VERSION_3 = 300


class _Call(NamedTuple):
    request: Request
    at_us: int
    server: int


class BookingCustomers:
    """Plays a history against the service and hands the events to the delivery.

    Args:
        history: When it happens and how much.
        schedule: Where the flights come from.
        service: Decides.
        delivery: Brings the published events away.
        truth: Is told how flights and bookings ended.
        rng: Decides what customers want.
    """

    def __init__(
        self,
        *,
        history: History,
        schedule: Schedule,
        service: BookingService,
        delivery: Delivery,
        truth: Truth,
        rng: random.Random,
    ) -> None:
        self._history = history
        self._schedule = schedule
        self._service = service
        self._delivery = delivery
        self._truth = truth
        self._rng = rng
        self._board = FlightBoard(rng)
        self._clock = Clock(rng)
        self._notes = Notes(history.events, rng)
        self._version_2_share = 0.0
        self._wishes: dict[str, Callable[[int], Command]] = {
            "book": lambda _: self._to_book(),
            "change_seat": lambda _: self._to_change_seat(),
            "cancel": lambda _: self._to_cancel(),
            "check_in": lambda _: self._to_check_in(),
            "reschedule": self._to_reschedule,
            "confused": lambda _: self._confused(),
        }

    def play(self, progress: Callable[[int], object]) -> None:
        """Play the whole history: exactly its number of events, and those of the coming schema version besides.

        Args:
            progress: Is told the number of new events, hour by hour.
        """
        happened = 0
        tried_out = 0
        try_outs = min(max(self._history.events // EVENTS_PER_VERSION_3, FEWEST_VERSION_3), MOST_VERSION_3)
        for hour, (now_us, due) in enumerate(self._history.hours()):
            before = happened
            share = due / self._history.events
            self._version_2_share = 0.15 + 0.7 * share  # the roll-out takes the whole history
            if hour % 24 == 0:
                happened += self._open_flights(hour // 24, now_us)
            self._board.look(now_us)
            new = self._to_try_out(int(try_outs * share) - tried_out)
            tried_out += len(new)
            count = max(due - happened, 0)
            self._hour(now_us, new, count)
            happened += count
            self._forget(self._board.forget_departed_before(now_us - FORGOTTEN_AFTER_US))
            progress(happened - before)
        self._forget(list(self._board.flights.values()))

    def _open_flights(self, day: int, now_us: int) -> int:
        """Put the flights of one more day on sale; on the first day, those of all days on sale."""
        opened: list[ScheduledFlight] = []
        for ahead in range(1, DAYS_ON_SALE + 1) if day == 0 else [day + DAYS_ON_SALE]:
            flights = self._schedule.flights_on(self._history.first_day + timedelta(days=ahead))
            opened += self._rng.sample(flights, min(self._history.flights_per_day, len(flights)))
        self._board.open(opened)
        self._ask([self._call(flight, now_us + i * 1_000) for i, flight in enumerate(opened)])
        return len(opened)

    def _hour(self, now_us: int, try_outs: Sequence[Book], count: int) -> None:
        moments = sorted(now_us + int(self._rng.random() * HOUR_US) for _ in range(len(try_outs) + count))
        # Those of the coming version come first, while the board is still right: they aren't refused.
        calls = [
            self._call(book, at_us, NEXT_SCHEMA_VERSION)
            for book, at_us in zip(try_outs, moments, strict=False)
        ]
        intents = self._rng.choices(list(INTENTS), weights=list(INTENTS.values()), k=count)
        for intent, at_us in zip(intents, moments[len(try_outs) :], strict=True):
            calls.append(self._call(self._wishes[intent](at_us), at_us, note=self._notes.next()))
        self._ask(calls)

    def _call(
        self,
        command: Command,
        at_us: int,
        schema_version: Literal[1, 2, 3] | None = None,
        note: str | None = None,
    ) -> _Call:
        server = 0 if self._chance(FIRST_SERVER_SHARE) else 1
        version = schema_version or (2 if self._chance(self._version_2_share) else 1)
        return _Call(Request(command, self._clock.read(at_us, server), version, note), at_us, server)

    def _ask(self, calls: Sequence[_Call]) -> None:
        """Let the service decide, learn from it, and have the events published."""
        events = self._service.decide_all([call.request for call in calls])
        for event in events:
            self._board.learn(event)

        def deliver(outbox: list[OutboxEvent]) -> None:
            for (_, event_type, text), event, call in zip(outbox, events, calls, strict=True):
                line = Line(text, key_of(event))
                if call.request.schema_version == NEXT_SCHEMA_VERSION:
                    self._truth.undecodable(event, VERSION_3)
                    self._delivery.accept_undecodable(line, VERSION_3, call.at_us, call.server)
                else:
                    self._delivery.accept(line, event_type, call.at_us, call.server)
            self._delivery.confirm()

        publish(self._service, deliver, limit=len(calls))

    def _forget(self, flights: Sequence[Flight]) -> None:
        undecodable = {booking_id for flight in flights for booking_id in flight.undecodable}
        for flight in self._service.close_flights(flight.id for flight in flights):
            self._truth.flight_ended(flight, undecodable)

    def _book(self, flight: Flight, seat: str) -> Book:
        price_cents = int(flight.price_cents * (0.8 + 0.6 * self._rng.random()))
        return Book(flight.id, f"P{self._rng.randrange(10_000_000):07d}", seat, price_cents)

    def _to_book(self) -> Book:
        flight = self._board.on_sale()
        if not flight.free and self._chance(0.8):  # most look for another flight then
            flight = self._board.on_sale()
        if not flight.free or self._chance(STALE_SEAT_MAP):
            return self._book(flight, seat_label(self._rng.randrange(flight.capacity)))
        return self._book(flight, self._free_seat(flight))

    def _free_seat(self, flight: Flight) -> str:
        # All like to sit in front: that is where they meet.
        return flight.free[int(len(flight.free) * self._rng.random() ** 2)]

    def _to_try_out(self, count: int) -> list[Book]:
        """Book seats that nobody ever had, each once."""
        books: dict[tuple[str, str], Book] = {}
        while len(books) < count:
            flight = self._board.on_sale()
            never_sold = [seat for seat in flight.free if seat not in flight.returned]
            if never_sold:
                seat = self._rng.choice(never_sold)
                books[flight.id, seat] = self._book(flight, seat)
        return list(books.values())

    def _to_change_seat(self) -> Command:
        flight = self._board.on_sale()
        bookings = flight.checked_in if flight.checked_in and self._chance(0.2) else flight.confirmed
        if not bookings:
            return self._to_book()
        stale = not flight.free or self._chance(STALE_SEAT_MAP)
        seat = seat_label(self._rng.randrange(flight.capacity)) if stale else self._free_seat(flight)
        return ChangeSeat(self._rng.choice(bookings), seat)

    def _to_cancel(self) -> Command:
        flight = self._board.on_sale()
        if not flight.confirmed:
            return self._to_book()
        return Cancel(self._take(flight.confirmed), self._rng.choice(CANCEL_REASONS))

    def _to_check_in(self) -> Command:
        flight = self._board.boarding()
        if flight is None or not flight.confirmed:
            return self._to_book()
        return CheckIn(self._take(flight.confirmed))

    def _take(self, bookings: list[str]) -> str:
        """Pick a booking whose customer won't ask for anything else until there is an answer."""
        i = self._rng.randrange(len(bookings))
        bookings[i], bookings[-1] = bookings[-1], bookings[i]
        return bookings.pop()

    def _to_reschedule(self, at_us: int) -> Command:
        flight = self._board.on_sale()
        minutes = self._rng.choice((-10, 15, 20, 30, 45, 60, 90, 120, 240, 480, 1_440))
        departs_us = flight.departs_us + minutes * 60_000_000
        if departs_us - at_us < 2 * HOUR_US:
            departs_us = flight.departs_us + DAY_US
        departs_at = datetime.fromtimestamp(departs_us // 1_000_000, NEW_YORK if self._chance(0.7) else UTC)
        return Reschedule(flight.id, departs_at, self._rng.choice(RESCHEDULE_REASONS))

    def _confused(self) -> Command:
        """Ask for what can't be: each reason to refuse comes up."""
        rng = self._rng
        flight, departed = self._board.on_sale(), self._board.departed
        wishes: list[Callable[[], Command]] = [
            lambda: self._book(flight, rng.choice((f"{flight.capacity}A", "0A", "13I", "99F"))),
            lambda: Book(
                f"ZZ{rng.randrange(1, 9999)}-JFK-{self._history.first_day}", "P0000000", "1A", 10_000
            ),
            lambda: Cancel(f"X{rng.randrange(10**9):09d}", "never booked"),
        ]
        if flight.cancelled:
            wishes.append(lambda: Cancel(rng.choice(flight.cancelled), "asked again"))
        if flight.checked_in:
            wishes.append(lambda: rng.choice((CheckIn, _cancel_late))(rng.choice(flight.checked_in)))
        if departed:
            wishes.append(lambda: self._book(rng.choice(departed), "1A"))
            wishes.append(lambda: Reschedule(rng.choice(departed).id, self._clock.read(0, 0), "too late"))
        if departed and departed[-1].confirmed:
            wishes.append(lambda: CheckIn(rng.choice(departed[-1].confirmed)))
        return rng.choice(wishes)()

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share


def _cancel_late(booking_id: str) -> Cancel:
    return Cancel(booking_id, "after check-in")
