"""A reader of the landing folder that is as simple as can be: drop what is malformed or repeated, order, reduce.

It shares no code with the generator: that is its use.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from pathlib import Path

Event = dict[str, Any]

TEXT = str
WHOLE = int
TYPES: dict[str, dict[str, type]] = {
    "flight_scheduled": {
        "flight_id": TEXT,
        "carrier": TEXT,
        "flight_number": WHOLE,
        "origin": TEXT,
        "destination": TEXT,
        "departs_at": datetime,
        "capacity": WHOLE,
    },
    "flight_rescheduled": {"flight_id": TEXT, "departs_at": datetime, "reason": TEXT},
    "booking_confirmed": {"booking_id": TEXT, "flight_id": TEXT, "passenger_id": TEXT, "seat": TEXT},
    "seat_changed": {"booking_id": TEXT, "flight_id": TEXT, "from_seat": TEXT, "to_seat": TEXT},
    "booking_cancelled": {"booking_id": TEXT, "flight_id": TEXT, "seat": TEXT, "reason": TEXT},
    "checked_in": {"booking_id": TEXT, "flight_id": TEXT, "seat": TEXT},
    "command_refused": {"command": TEXT, "reason": TEXT},
    "cart_opened": {"cart_id": TEXT, "customer_id": TEXT},
    "item_added": {"cart_id": TEXT, "product_id": TEXT, "quantity": WHOLE},
    "quantity_changed": {"cart_id": TEXT, "product_id": TEXT, "quantity": WHOLE},
    "item_removed": {"cart_id": TEXT, "product_id": TEXT},
    "cart_checked_out": {"cart_id": TEXT},
    "cart_abandoned": {"cart_id": TEXT},
}
AMOUNTS: dict[tuple[str, int], dict[str, type]] = {
    ("booking_confirmed", 1): {"price": float},
    ("booking_confirmed", 2): {"fare": dict},
    ("item_added", 1): {"unit_price": float},
    ("item_added", 2): {"unit_price_cents": WHOLE},
    ("cart_checked_out", 1): {"total": float},
    ("cart_checked_out", 2): {"total_cents": WHOLE},
}
COMMON: dict[str, type] = {
    "event_id": TEXT,
    "event_type": TEXT,
    "schema_version": WHOLE,
    "occurred_at": datetime,
}
COUNTERS = {"bookings": "sequence", "cart_events": "cart_version"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass
class Reading:
    """What a naive reader finds in a stream's files."""

    events: dict[str, Event] = field(default_factory=dict)
    in_order_of_arrival: list[str] = field(default_factory=list)
    duplicates: int = 0
    reserialised: int = 0
    malformed: int = 0
    empty: int = 0
    files: int = 0
    coming: list[Event] = field(default_factory=list)


def read(landing: Path, stream: str) -> Reading:
    """Read all lines, drop the malformed ones and the repeated ones."""
    reading = Reading()
    lines_of: dict[str, bytes] = {}
    for path in sorted(path for path in (landing / stream).rglob("*") if path.is_file()):
        reading.files += 1
        content = content_of(path)
        assert content.endswith(b"\n")
        for line in content[:-1].split(b"\n"):
            if not line:
                reading.empty += 1
                continue
            event = decode(line, stream)
            if event is None:
                reading.malformed += 1
                if b'"schema_version":3' in line:
                    reading.coming.append(json.loads(line))
            elif event["event_id"] in reading.events:
                reading.duplicates += 1
                assert reading.events[event["event_id"]] == event
                reading.reserialised += lines_of[event["event_id"]] != line.rstrip(b"\r")
            else:
                reading.events[event["event_id"]] = event
                lines_of[event["event_id"]] = line.rstrip(b"\r")
                reading.in_order_of_arrival.append(event["event_id"])
    return reading


def content_of(path: Path) -> bytes:
    """Return a file's bytes, decompressed."""
    match path.suffix:
        case ".gz":
            return gzip.decompress(path.read_bytes())
        case ".zst":
            with path.open("rb") as file:
                return zstandard.ZstdDecompressor().stream_reader(file).read()
        case _:
            assert path.suffix in {".jsonl", ".ndjson"}
            return path.read_bytes()


def decode(line: bytes, stream: str) -> Event | None:
    """Return the event of a line, or None if the contract calls it malformed."""
    try:
        event = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    event_type, version = event.get("event_type"), event.get("schema_version")
    if not isinstance(event_type, str) or event_type not in TYPES or version not in (1, 2):
        return None
    counter = COUNTERS[stream]
    wanted = COMMON | {counter: WHOLE} | TYPES[event_type] | AMOUNTS.get((event_type, version), {})
    if not all(is_of(event.get(name), type_) for name, type_ in wanted.items()):
        return None
    return event if min(event[counter], event.get("quantity", 1)) >= 1 else None


def is_of(value: object, type_: type) -> bool:
    """Tell whether a JSON value has the type that the contract names."""
    if type_ is datetime:
        if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
            return False
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    if type_ is dict:
        return (
            isinstance(value, dict)
            and type(value.get("amount_cents")) is int
            and value.get("currency") == "USD"
        )
    if type_ is float:
        return type(value) in (int, float)
    return type(value) is type_


def price_of(event: Event) -> Any:
    """Return the whole cents of a booking, whichever version wrote them."""
    match event["schema_version"]:
        case 1:
            return round(event["price"] * 100)
        case 2:
            return int(event["fare"]["amount_cents"])
        case _:
            return int(event["fare"]["amount"].replace(".", ""))


class Seats:
    """Who holds which seat; refuses two holders of one."""

    def __init__(self) -> None:
        self.holders: dict[tuple[str, str], str] = {}

    def take(self, booking: Event) -> None:
        """Give a booking the seat that it names."""
        seat = (booking["flight_id"], booking["seat"])
        assert seat not in self.holders
        self.holders[seat] = booking["booking_id"]

    def leave(self, booking: Event, seat: str) -> None:
        """Take a seat back from the booking that must be its holder."""
        assert booking["seat"] == seat
        assert self.holders.pop((booking["flight_id"], seat)) == booking["booking_id"]


def reduce_bookings(events: list[Event]) -> tuple[dict[str, Event], dict[str, Event]]:
    """Follow the events in the order of their sequence, into bookings and flights."""
    bookings: dict[str, Event] = {}
    flights: dict[str, Event] = {}
    seats = Seats()
    for event in sorted(events, key=lambda event: event["sequence"]):
        booking = bookings.get(event.get("booking_id", ""), {})
        match event["event_type"]:
            case "flight_scheduled":
                flights[event["flight_id"]] = {
                    name: event[name] for name in ("flight_id", "departs_at", "capacity")
                }
            case "flight_rescheduled":
                flights[event["flight_id"]]["departs_at"] = event["departs_at"]
            case "booking_confirmed":
                names = ("booking_id", "flight_id", "passenger_id", "seat")
                booking = {name: event[name] for name in names}
                bookings[event["booking_id"]] = booking
                booking |= {"status": "confirmed", "price_cents": price_of(event), "changes": 0}
                seats.take(booking)
            case "seat_changed":
                seats.leave(booking, event["from_seat"])
                booking["seat"] = event["to_seat"]
                booking["changes"] += 1
                seats.take(booking)
            case "booking_cancelled":
                seats.leave(booking, event["seat"])
                booking["status"] = "cancelled"
            case "checked_in":
                assert booking["seat"] == event["seat"]
                booking["status"] = "checked_in"
    taken = Counter(flight_id for flight_id, _ in seats.holders)
    for flight in flights.values():
        flight["seats_taken"] = taken[flight["flight_id"]]
        assert flight["seats_taken"] <= flight["capacity"]
    return bookings, flights


def reduce_carts(events: list[Event]) -> dict[str, Event]:
    """Follow the events of each cart in the order of its versions."""
    carts: dict[str, Event] = {}
    for event in sorted(events, key=lambda event: (event["cart_id"], event["cart_version"])):
        cart = carts.setdefault(event["cart_id"], {"cart_id": event["cart_id"], "items": {}, "version": 0})
        cart["version"] += 1
        assert cart["version"] == event["cart_version"]
        items, product = cart["items"], event.get("product_id")
        match event["event_type"]:
            case "cart_opened":
                cart |= {"customer_id": event["customer_id"], "status": "open"}
            case "item_added":
                cents = event.get("unit_price_cents", round(event.get("unit_price", 0) * 100))
                items[product] = [items.get(product, [0])[0] + event["quantity"], cents]
            case "quantity_changed":
                items[product][0] = event["quantity"]
            case "item_removed":
                del items[product]
            case "cart_checked_out":
                cents = event.get("total_cents", round(event.get("total", 0) * 100))
                assert cents == sum(quantity * price for quantity, price in items.values())
                cart["status"] = "checked_out"
            case "cart_abandoned":
                cart["status"] = "abandoned"
    for cart in carts.values():
        del cart["version"]
        cart["total_cents"] = sum(quantity * price for quantity, price in cart["items"].values())
    return carts
