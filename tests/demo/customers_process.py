"""A process of customers that fight for the same few seats; the tests start several, and kill one.

Each event is printed after the service has answered, so whatever was printed must never be lost.
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from demo.booking_commands import Book, Cancel, ChangeSeat, CheckIn, Command, Request
from demo.booking_service import BookingService

NOW = datetime(2013, 1, 1, tzinfo=UTC)


def main(database: str, flight_id: str, seats: str, rounds: int, seed: int) -> None:
    """Let four customers ask for seats, keep some and give some back."""
    with ThreadPoolExecutor(4) as threads:
        customers = [
            threads.submit(fight, Path(database), flight_id, seats.split(","), rounds, f"{seed}/{i}")
            for i in range(4)
        ]
    for customer in customers:
        customer.result()


def fight(database: Path, flight_id: str, seats: list[str], rounds: int, name: str) -> None:
    """Ask, and say what the answer was."""
    rng = random.Random(name)
    mine: list[str] = []
    with BookingService(database) as service:
        for _ in range(rounds):
            command: Command = Book(flight_id, name, rng.choice(seats), 10_000)
            if mine:
                booking_id = rng.choice(mine)
                others: list[Command] = [
                    ChangeSeat(booking_id, rng.choice(seats)),
                    Cancel(booking_id, "test"),
                    CheckIn(booking_id),
                ]
                command = rng.choices([command, *others], weights=[5, 3, 3, 1])[0]
            events = service.decide_all([Request(command, NOW)] * rng.choice((1, 1, 3)))
            mine += [event["booking_id"] for event in events if event["event_type"] == "booking_confirmed"]
            sys.stdout.write("".join(json.dumps(event) + "\n" for event in events))
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
