"""What the flight booking service decides for each command; runs inside the transaction that `booking_service.py` opens."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from demo.booking_commands import Book, Cancel, ChangeSeat, CheckIn, Event, Request, Reschedule
from demo.schedule import ScheduledFlight, seat_exists

# What events call the commands that can be refused.
_NAMES: dict[type, str] = {
    Book: "book",
    ChangeSeat: "change_seat",
    Cancel: "cancel",
    CheckIn: "check_in",
    Reschedule: "reschedule",
}


class Refused(Exception):
    """The command can't be done; carries what the event says of it."""

    def __init__(
        self,
        reason: str,
        *,
        flight_id: str | None = None,
        booking_id: str | None = None,
        seat: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.fields = {"reason": reason, "flight_id": flight_id, "booking_id": booking_id, "seat": seat}


def decide(cursor: sqlite3.Cursor, request: Request, sequence: int) -> Event:
    """Do one command, or refuse it.

    Args:
        cursor: A cursor in a transaction that holds the write lock.
        request: The command.
        sequence: The number of this decision; a new booking is named by it.

    Returns:
        The event's type and the fields that belong to the type.
    """
    try:
        return _do(cursor, request, sequence)
    except Refused as refusal:
        fields = {"event_type": "command_refused", "command": _NAMES[type(request.command)], **refusal.fields}
        if request.schema_version == 1:
            return fields
        # The newer versions leave out what the command didn't have.
        return {field: value for field, value in fields.items() if value is not None}


def fare_of(price_cents: int, schema_version: int) -> Event:
    """Write a price as this version of the schema does."""
    match schema_version:
        case 1:
            return {"price": price_cents / 100}
        case 2:
            return {"fare": {"amount_cents": price_cents, "currency": "USD"}}
        case _:
            dollars, cents = divmod(price_cents, 100)
            return {"fare": {"amount": f"{dollars}.{cents:02d}", "currency": "USD"}}


def rfc_3339(moment: datetime) -> str:
    """Write a moment with its offset, UTC as `Z`."""
    text = moment.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _do(cursor: sqlite3.Cursor, request: Request, sequence: int) -> Event:
    match request.command:
        case Book() as command:
            return _book(cursor, command, request, sequence)
        case CheckIn() as command:
            return _check_in(cursor, command, request)
        case ChangeSeat() as command:
            return _change_seat(cursor, command, request)
        case Cancel() as command:
            return _cancel(cursor, command, request)
        case Reschedule() as command:
            return _reschedule(cursor, command, request)
        case ScheduledFlight() as flight:
            return _schedule(cursor, flight)


def _schedule(cursor: sqlite3.Cursor, flight: ScheduledFlight) -> Event:
    departs_at = rfc_3339(flight.departs_at)
    cursor.execute(
        "insert into flights (flight_id, departs_at, capacity) values (?, ?, ?)",
        (flight.flight_id, departs_at, flight.capacity),
    )
    return {
        "event_type": "flight_scheduled",
        "flight_id": flight.flight_id,
        "carrier": flight.carrier,
        "flight_number": flight.flight_number,
        "origin": flight.origin,
        "destination": flight.destination,
        "departs_at": departs_at,
        "capacity": flight.capacity,
    }


def _book(cursor: sqlite3.Cursor, command: Book, request: Request, sequence: int) -> Event:
    flight_id, seat = command.flight_id, command.seat
    flight = cursor.execute(
        "select departs_at, capacity from flights where flight_id = ?", (flight_id,)
    ).fetchone()
    if flight is None:
        raise Refused("no_such_flight", flight_id=flight_id, seat=seat)
    if request.occurred_at >= datetime.fromisoformat(flight[0]):
        raise Refused("departed", flight_id=flight_id, seat=seat)
    if not seat_exists(seat, flight[1]):
        raise Refused("no_such_seat", flight_id=flight_id, seat=seat)
    booking_id = f"B{sequence:09d}"
    try:
        cursor.execute(
            "insert into bookings (booking_id, flight_id, passenger_id, seat, status, price_cents) "
            "values (?, ?, ?, ?, 'confirmed', ?)",
            (booking_id, flight_id, command.passenger_id, seat, command.price_cents),
        )
    except sqlite3.IntegrityError:  # one_living_booking_per_seat
        raise Refused("seat_taken", flight_id=flight_id, seat=seat) from None
    return {
        "event_type": "booking_confirmed",
        "booking_id": booking_id,
        "flight_id": flight_id,
        "passenger_id": command.passenger_id,
        "seat": seat,
        **fare_of(command.price_cents, request.schema_version),
    }


def _change_seat(cursor: sqlite3.Cursor, command: ChangeSeat, request: Request) -> Event:
    booking_id, to_seat = command.booking_id, command.to_seat
    flight_id, from_seat, _, capacity = _living_booking(cursor, request, booking_id, to_seat)
    if not seat_exists(to_seat, capacity):
        raise Refused("no_such_seat", flight_id=flight_id, booking_id=booking_id, seat=to_seat)
    if to_seat == from_seat:
        raise Refused("seat_taken", flight_id=flight_id, booking_id=booking_id, seat=to_seat)
    try:
        cursor.execute(
            "update bookings set seat = ?, changes = changes + 1 where booking_id = ?", (to_seat, booking_id)
        )
    except sqlite3.IntegrityError:  # one_living_booking_per_seat
        raise Refused("seat_taken", flight_id=flight_id, booking_id=booking_id, seat=to_seat) from None
    return {
        "event_type": "seat_changed",
        "booking_id": booking_id,
        "flight_id": flight_id,
        "from_seat": from_seat,
        "to_seat": to_seat,
    }


def _cancel(cursor: sqlite3.Cursor, command: Cancel, request: Request) -> Event:
    booking_id = command.booking_id
    flight_id, seat, status, _ = _living_booking(cursor, request, booking_id)
    if status == "checked_in":
        raise Refused("already_checked_in", flight_id=flight_id, booking_id=booking_id, seat=seat)
    cursor.execute("update bookings set status = 'cancelled' where booking_id = ?", (booking_id,))
    return {
        "event_type": "booking_cancelled",
        "booking_id": booking_id,
        "flight_id": flight_id,
        "seat": seat,
        "reason": command.reason,
    }


def _check_in(cursor: sqlite3.Cursor, command: CheckIn, request: Request) -> Event:
    booking_id = command.booking_id
    flight_id, seat, status, _ = _living_booking(cursor, request, booking_id)
    if status == "checked_in":
        raise Refused("already_checked_in", flight_id=flight_id, booking_id=booking_id, seat=seat)
    cursor.execute("update bookings set status = 'checked_in' where booking_id = ?", (booking_id,))
    return {"event_type": "checked_in", "booking_id": booking_id, "flight_id": flight_id, "seat": seat}


def _reschedule(cursor: sqlite3.Cursor, command: Reschedule, request: Request) -> Event:
    flight_id = command.flight_id
    flight = cursor.execute("select departs_at from flights where flight_id = ?", (flight_id,)).fetchone()
    if flight is None:
        raise Refused("no_such_flight", flight_id=flight_id)
    if request.occurred_at >= datetime.fromisoformat(flight[0]):
        raise Refused("departed", flight_id=flight_id)
    departs_at = rfc_3339(command.departs_at)
    cursor.execute("update flights set departs_at = ? where flight_id = ?", (departs_at, flight_id))
    return {
        "event_type": "flight_rescheduled",
        "flight_id": flight_id,
        "departs_at": departs_at,
        "reason": command.reason,
    }


def _living_booking(
    cursor: sqlite3.Cursor, request: Request, booking_id: str, asked_seat: str | None = None
) -> tuple[str, str, str, int]:
    """Return flight, seat, status and the plane's capacity of a booking that can still be changed."""
    row = cursor.execute(
        "select flight_id, seat, status, capacity, departs_at from bookings join flights using (flight_id) "
        "where booking_id = ?",
        (booking_id,),
    ).fetchone()
    if row is None:
        raise Refused("no_such_booking", booking_id=booking_id, seat=asked_seat)
    flight_id, seat, status, capacity, departs_at = row
    if status == "cancelled":
        raise Refused("already_cancelled", flight_id=flight_id, booking_id=booking_id, seat=asked_seat)
    if request.occurred_at >= datetime.fromisoformat(departs_at):
        raise Refused("departed", flight_id=flight_id, booking_id=booking_id, seat=asked_seat)
    return flight_id, seat, status, capacity
