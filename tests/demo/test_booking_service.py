"""The booking service's promise: a seat belongs to one passenger, whatever is tried at once and whoever dies."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.booking_commands import Book, Cancel, ChangeSeat, CheckIn, Command, Request, Reschedule
from demo.booking_service import BookingService
from demo.schedule import ScheduledFlight, seat_label

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NOW = datetime(2013, 1, 1, 12, tzinfo=UTC)
FLIGHT = ScheduledFlight("UA1-EWR-2013-01-02", "UA", 1, "EWR", "IAH", NOW + timedelta(days=1), 20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[BookingService]:
    """Return a service with one flight of 20 seats."""
    with BookingService(tmp_path / "bookings.sqlite") as service:
        service.decide(Request(FLIGHT, NOW))
        yield service


def ask(service: BookingService, command: Command, at: datetime = NOW) -> dict[str, Any]:
    """Ask for something, and return the event."""
    return service.decide(Request(command, at))


def outbox(service: BookingService) -> list[dict[str, Any]]:
    """Return all events that wait to be published."""
    return [
        json.loads(event)
        for (event,) in service.database.execute("select event from events order by sequence")
    ]


def test_a_seat_is_never_sold_twice(tmp_path: Path) -> None:
    """Twenty customers in five processes fight for eight seats; three processes are killed with -9; the events tell it all, and agree."""
    database = tmp_path / "bookings.sqlite"
    with BookingService(database) as service:
        service.decide(Request(FLIGHT, NOW))
    victims = [customers(database, rounds=1_000_000, seed=seed) for seed in range(3)]
    others = [customers(database, rounds=60, seed=seed) for seed in (3, 4)]
    acknowledged: list[bytes] = []
    for victim, answers in zip(victims, (20, 40, 60), strict=True):
        assert victim.stdout is not None
        acknowledged += [victim.stdout.readline() for _ in range(answers)]
        victim.kill()
        # It may have left half a line.
        acknowledged += [
            line for line in victim.communicate()[0].splitlines(keepends=True) if line.endswith(b"\n")
        ]
    for process in others:
        acknowledged += process.communicate()[0].splitlines()
        assert process.returncode == 0

    with BookingService(database) as service:
        events = outbox(service)
        held = service.database.execute(
            "select seat, booking_id from bookings where status <> 'cancelled'"
        ).fetchall()
    assert sorted(held) == sorted(replay(events).items())
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    told = {event["event_id"]: event for event in events}
    assert len(told) == len(events)
    for line in acknowledged:
        event = json.loads(line)
        assert told[event["event_id"]] == event
    assert len(acknowledged) >= 2 * 4 * 60
    assert "seat_taken" in {event.get("reason") for event in events}


def customers(database: Path, *, rounds: int, seed: int) -> subprocess.Popen[bytes]:
    """Start a process of customers who fight for the first eight seats."""
    seats = ",".join(seat_label(number) for number in range(8))
    script = ROOT / "tests/demo/customers_process.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(database), FLIGHT.flight_id, seats, str(rounds), str(seed)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def replay(events: list[dict[str, Any]]) -> dict[str, str]:
    """Follow the seats through the events, and check each decision against what was true then."""
    holders: dict[str, str] = {}
    for event in events:
        match event["event_type"]:
            case "booking_confirmed":
                assert event["seat"] not in holders
                holders[event["seat"]] = event["booking_id"]
            case "seat_changed":
                assert holders.pop(event["from_seat"]) == event["booking_id"]
                assert event["to_seat"] not in holders
                holders[event["to_seat"]] = event["booking_id"]
            case "booking_cancelled":
                assert holders.pop(event["seat"]) == event["booking_id"]
            case "command_refused" if event["reason"] == "seat_taken":
                assert event["seat"] in holders
    return holders


def test_even_a_mistake_in_the_rules_cannot_sell_a_seat_twice(service: BookingService) -> None:
    """The database itself refuses a second living booking of a seat, and takes it once the first is cancelled."""
    first = ask(service, Book(FLIGHT.flight_id, "P1", "1A", 10_000))
    row = ("B999999999", FLIGHT.flight_id, "P2", "1A", "confirmed", 10_000, 0)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        service.database.execute("insert into bookings values (?, ?, ?, ?, ?, ?, ?)", row)
    ask(service, Cancel(first["booking_id"], "test"))
    service.database.execute("insert into bookings values (?, ?, ?, ?, ?, ?, ?)", row)


def test_a_writer_holds_the_lock_before_it_looks(service: BookingService, tmp_path: Path) -> None:
    """While one decides, no other can begin to."""
    with sqlite3.connect(tmp_path / "bookings.sqlite", timeout=0, isolation_level=None) as other:
        with service.transaction(), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("begin immediate")
        other.execute("begin immediate")
        other.execute("rollback")
    other.close()


def test_a_group_commit_is_all_or_nothing(service: BookingService) -> None:
    """When one command of a group can't even be read, none of the group happened."""
    good = Request(Book(FLIGHT.flight_id, "P1", "1A", 10_000), NOW)
    bad = replace(good, occurred_at="tomorrow")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="str"):
        service.decide_all([good, bad])
    assert [event["event_type"] for event in outbox(service)] == ["flight_scheduled"]
    assert service.decide(good)["event_type"] == "booking_confirmed"


def test_no_decision_without_its_event(service: BookingService) -> None:
    """When the event can't be recorded, the seat isn't sold either."""
    service.database.execute(
        "create temporary trigger full_disk before insert on main.events begin select raise(abort, 'disk full'); end"
    )
    with pytest.raises(sqlite3.IntegrityError, match="disk full"):
        ask(service, Book(FLIGHT.flight_id, "P1", "1A", 10_000))
    assert service.database.execute("select count(*) from bookings").fetchone() == (0,)
    service.database.execute("drop trigger full_disk")
    assert ask(service, Book(FLIGHT.flight_id, "P2", "1A", 10_000))["event_type"] == "booking_confirmed"


def test_a_booking_goes_through_its_states(service: BookingService) -> None:
    """Booked, moved, checked in; and the seat that was left is free again."""
    booking = ask(service, Book(FLIGHT.flight_id, "P1", "1A", 10_050))
    booking_id = booking["booking_id"]
    assert booking["fare"] == {"amount_cents": 10_050, "currency": "USD"}
    moved = ask(service, ChangeSeat(booking_id, "4B"))
    assert (moved["from_seat"], moved["to_seat"]) == ("1A", "4B")
    assert ask(service, Book(FLIGHT.flight_id, "P2", "1A", 10_000))["event_type"] == "booking_confirmed"
    assert ask(service, CheckIn(booking_id))["seat"] == "4B"
    (flight,) = service.close_flights([FLIGHT.flight_id])
    assert [(b.seat, b.status, b.changes) for b in flight.bookings] == [
        ("4B", "checked_in", 1),
        ("1A", "confirmed", 0),
    ]


def test_each_refusal_is_an_event_with_its_reason(service: BookingService) -> None:
    """What can't be done changes nothing, and is told."""
    flight_id = FLIGHT.flight_id
    checked_in = ask(service, Book(flight_id, "P1", "1A", 10_000))["booking_id"]
    cancelled = ask(service, Book(flight_id, "P2", "1B", 10_000))["booking_id"]
    ask(service, CheckIn(checked_in))
    ask(service, Cancel(cancelled, "test"))
    too_late = FLIGHT.departs_at
    cases: list[tuple[Command, datetime, str, str]] = [
        (Book(flight_id, "P3", "1A", 1), NOW, "book", "seat_taken"),
        (Book(flight_id, "P3", "4C", 1), NOW, "book", "no_such_seat"),
        (Book(flight_id, "P3", "0A", 1), NOW, "book", "no_such_seat"),
        (Book(flight_id, "P3", "1", 1), NOW, "book", "no_such_seat"),
        (Book("ZZ1-EWR-2013-01-02", "P3", "1A", 1), NOW, "book", "no_such_flight"),
        (Book(flight_id, "P3", "2A", 1), too_late, "book", "departed"),
        (ChangeSeat(checked_in, "1A"), NOW, "change_seat", "seat_taken"),
        (ChangeSeat(checked_in, "9A"), NOW, "change_seat", "no_such_seat"),
        (ChangeSeat(cancelled, "2A"), NOW, "change_seat", "already_cancelled"),
        (ChangeSeat("B0", "2A"), NOW, "change_seat", "no_such_booking"),
        (Cancel(cancelled, "again"), NOW, "cancel", "already_cancelled"),
        (Cancel(checked_in, "late"), NOW, "cancel", "already_checked_in"),
        (CheckIn(checked_in), NOW, "check_in", "already_checked_in"),
        (CheckIn(checked_in), too_late, "check_in", "departed"),
        (Reschedule(flight_id, NOW, "test"), too_late, "reschedule", "departed"),
        (Reschedule("ZZ1-EWR-2013-01-02", NOW, "test"), NOW, "reschedule", "no_such_flight"),
    ]
    before = service.database.execute("select * from bookings").fetchall()
    for command, at, name, reason in cases:
        event = ask(service, command, at)
        assert (event["event_type"], event["command"], event["reason"]) == ("command_refused", name, reason)
    assert service.database.execute("select * from bookings").fetchall() == before


def test_a_moved_flight_departs_at_its_new_time(service: BookingService) -> None:
    """After a change of schedule the old time no longer refuses."""
    later = FLIGHT.departs_at + timedelta(hours=5)
    ask(service, Reschedule(FLIGHT.flight_id, later, "weather"))
    seat = Book(FLIGHT.flight_id, "P1", "1A", 10_000)
    assert ask(service, seat, later - timedelta(seconds=1))["event_type"] == "booking_confirmed"
    assert ask(service, replace(seat, seat="1B"), later)["reason"] == "departed"


@pytest.mark.parametrize(
    ("version", "fare"),
    [
        (1, {"price": 100.07}),
        (2, {"fare": {"amount_cents": 10_007, "currency": "USD"}}),
        (3, {"fare": {"amount": "100.07", "currency": "USD"}}),
    ],
)
def test_each_schema_version_writes_the_fare_its_own_way(
    service: BookingService, version: Any, fare: dict[str, Any]
) -> None:
    """The same price, in dollars, in cents, and as the coming version has it."""
    event = service.decide(Request(Book(FLIGHT.flight_id, "P1", "1A", 10_007), NOW, version))
    assert {field: event[field] for field in fare} == fare
    assert event["schema_version"] == version


def test_every_price_survives_the_way_through_dollars() -> None:
    """Whole cents come back exactly from two decimals."""
    from demo.booking_decisions import fare_of

    for cents in range(200_000):
        assert round(json.loads(json.dumps(fare_of(cents, 1)))["price"] * 100) == cents


def test_numbers_go_on_where_published_events_have_left(service: BookingService) -> None:
    """A sequence never comes twice, though the outbox is empty."""
    last = outbox(service)[-1]["sequence"]
    service.database.execute("update publisher set published_through = ?", (last,))
    service.database.execute("delete from events")
    assert ask(service, Book(FLIGHT.flight_id, "P1", "1A", 10_000))["sequence"] == last + 1
