"""The flight booking service: every decision about a seat is made and recorded here, in one SQLite database.

A command and the event that tells its outcome share one transaction, so there is no decision without an event and no event
without a decision. The rules are in `booking_decisions.py`; how events leave for the landing folder is in `publisher.py`.

Two things keep a seat from being sold twice. A writer takes the database's only write lock *before* it looks
(`begin immediate`), so none decides on what another is about to change. And a unique index admits one living booking per
seat, so that a mistake in the rules would be an error, never a second passenger.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

from demo.booking_decisions import decide, rfc_3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from demo.booking_commands import Event, Request

BUSY_TIMEOUT_SECONDS = 60.0

SCHEMA = """
begin immediate;

create table if not exists flights (
    flight_id text not null primary key,
    departs_at text not null,
    capacity integer not null check (capacity > 0)
) without rowid;

create table if not exists bookings (
    booking_id text not null primary key,
    flight_id text not null references flights,
    passenger_id text not null,
    seat text not null,
    status text not null check (status in ('confirmed', 'checked_in', 'cancelled')),
    price_cents integer not null,
    changes integer not null default 0
) without rowid;

create unique index if not exists one_living_booking_per_seat on bookings (flight_id, seat) where status <> 'cancelled';
create index if not exists cancelled_bookings on bookings (flight_id) where status = 'cancelled';

-- The outbox: written together with the decision, emptied by the publisher.
create table if not exists events (
    sequence integer not null primary key,
    event_type text not null,
    event text not null
);

create table if not exists publisher (
    only_row integer not null primary key check (only_row = 1),
    published_through integer not null
);
insert or ignore into publisher (only_row, published_through) values (1, 0);

commit;
"""


class BookingState(NamedTuple):
    """What the service knows of one booking."""

    booking_id: str
    flight_id: str
    passenger_id: str
    seat: str
    status: str
    price_cents: int
    changes: int


class FlightState(NamedTuple):
    """What the service knows of one flight, and its bookings by id."""

    flight_id: str
    departs_at: str
    capacity: int
    bookings: list[BookingState]


class BookingService:
    """A connection to the service's database; each thread and each process opens its own.

    Args:
        path: The database file, created when missing.
        is_durable: Wait for the disk at each commit. Only a simulation may say no.
        new_event_id: Where event ids come from.
    """

    def __init__(
        self,
        path: Path,
        *,
        is_durable: bool = True,
        new_event_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._new_event_id = new_event_id
        self.database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
        self.database.execute("pragma journal_mode = wal")
        self.database.execute(f"pragma synchronous = {'full' if is_durable else 'off'}")
        self.database.execute("pragma foreign_keys = on")
        self.database.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was decided stays."""
        self.database.close()

    def decide(self, request: Request) -> Event:
        """Decide one command; when this returns, the decision and its event are recorded."""
        return self.decide_all([request])[0]

    def decide_all(self, requests: Sequence[Request]) -> list[Event]:
        """Decide commands in their order in one transaction (a group commit): all are recorded, or none.

        Returns:
            One event per command; a refusal is an event too.
        """
        events = []
        with self.transaction() as cursor:
            first = _last_sequence(cursor) + 1
            for sequence, request in enumerate(requests, first):
                event: Event = {
                    "event_id": self._new_event_id(),
                    "event_type": None,  # keeps the place; `decide` fills it in
                    "schema_version": request.schema_version,
                    "occurred_at": rfc_3339(request.occurred_at),
                    "sequence": sequence,
                }
                event.update(decide(cursor, request, sequence))
                if request.note is not None:
                    event["note"] = request.note
                events.append(event)
            cursor.executemany(
                "insert into events (sequence, event_type, event) values (?, ?, ?)",
                [(event["sequence"], event["event_type"], to_json(event)) for event in events],
            )
        return events

    def close_flights(self, flight_ids: Iterable[str]) -> list[FlightState]:
        """Take flights out of the database and return how they and their bookings ended.

        Later commands about them are refused as unknown, so wait until nobody asks any more.
        """
        with self.transaction() as cursor:
            ended = [_flight_state(cursor, flight_id) for flight_id in flight_ids]
            for flight in ended:
                ids = [(booking.booking_id,) for booking in flight.bookings]
                cursor.executemany("delete from bookings where booking_id = ?", ids)
                cursor.execute("delete from flights where flight_id = ?", (flight.flight_id,))
        return ended

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """Hold the write lock from before the first look; commit at the end, roll back on any error."""
        self.database.execute("begin immediate")
        try:
            yield self.database.cursor()
        except BaseException:
            self.database.execute("rollback")
            raise
        self.database.execute("commit")


def to_json(event: Event) -> str:
    """Write an event as one line of JSON, without the line's end."""
    return _JSON.encode(event)


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _last_sequence(cursor: sqlite3.Cursor) -> int:
    # Events leave the outbox once they are published, and their numbers must not come again.
    (last,) = cursor.execute(
        "select max(published_through, coalesce((select max(sequence) from events), 0)) from publisher"
    ).fetchone()
    return int(last)


def _flight_state(cursor: sqlite3.Cursor, flight_id: str) -> FlightState:
    (departs_at, capacity) = cursor.execute(
        "select departs_at, capacity from flights where flight_id = ?", (flight_id,)
    ).fetchone()
    # Two halves, so that each is served by its partial index.
    bookings = cursor.execute(
        "select * from bookings where flight_id = ?1 and status <> 'cancelled' "
        "union all select * from bookings where flight_id = ?1 and status = 'cancelled' order by booking_id",
        (flight_id,),
    ).fetchall()
    return FlightState(flight_id, departs_at, capacity, [BookingState(*row) for row in bookings])
