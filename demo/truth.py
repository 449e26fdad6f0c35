"""What really happened, written down by the generator on its own path; nothing here reads a landing file."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from demo.booking_service import BookingState, FlightState
    from demo.cart_service import Cart


class Truth:
    """Files of one JSON object a line, each written as soon as its last state is known.

    Args:
        folder: Where the files go.
        names: Their names, without `.jsonl`.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self._files: dict[str, IO[str]] = {}
        for name in names:
            self._files[name] = (folder / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files.values():
            file.close()

    def flight_ended(self, flight: FlightState, undecodable: Collection[str]) -> None:
        """Write a flight and its bookings as today's contract lets them be known.

        Args:
            flight: How it ended.
            undecodable: Bookings that only an event of the coming schema version tells of.
        """
        known = [booking for booking in flight.bookings if booking.booking_id not in undecodable]
        for booking in known:
            self._write("bookings", booking_fields(booking))
        self._write(
            "flights",
            {
                "flight_id": flight.flight_id,
                "departs_at": flight.departs_at,
                "capacity": flight.capacity,
                "seats_taken": sum(booking.status != "cancelled" for booking in known),
            },
        )

    def cart_ended(self, cart: Cart) -> None:
        """Write a cart to which nothing more will happen."""
        self._write(
            "carts",
            {
                "cart_id": cart.cart_id,
                "customer_id": cart.customer_id,
                "status": cart.status,
                "items": cart.items,
                "total_cents": cart.total_cents,
            },
        )

    def undecodable(self, event: dict[str, Any], kind: str) -> None:
        """Write an event that today's contract calls malformed, though nothing is wrong with it."""
        self._write("undecodable_today", {"kind": kind, "event": event})

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        self._files[name].write(json.dumps(fields, separators=(",", ":")) + "\n")


def booking_fields(booking: BookingState) -> dict[str, Any]:
    """Return a booking as its line in `bookings.jsonl`."""
    return booking._asdict()
