"""Events leave the booking service at least once, and a reader of the landing folder only ever sees whole files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.booking_commands import Book, Request
from demo.booking_service import BookingService
from demo.landing import land_lines
from demo.publisher import publish, to_landing
from demo.schedule import ScheduledFlight, seat_label

ROOT = Path(__file__).parents[2]
NOW = datetime(2013, 1, 1, 12, tzinfo=UTC)
FLIGHT = ScheduledFlight("UA1-EWR-2013-01-02", "UA", 1, "EWR", "IAH", NOW + timedelta(days=1), 60)

# Publishes, and dies with -9 before or after the events are in the landing folder.
DIES = """
import os, signal, sys
from pathlib import Path
from demo.booking_service import BookingService
from demo.publisher import publish, to_landing
import demo.landing, os as system

database, landing, moment = sys.argv[1:]
deliver = to_landing(Path(landing), "2013-01-01")

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def deliver_and_die(events):
    if moment == "before the file has its name":
        demo.landing.os.link = die
    deliver(events)
    die()

publish(BookingService(Path(database)), deliver_and_die)
"""


def some_events(database: Path, bookings: int) -> set[str]:
    """Let the service decide something, and return the ids of its events."""
    requests = [Request(FLIGHT, NOW)]
    requests += [Request(Book(FLIGHT.flight_id, f"P{i}", seat_label(i), 9_900), NOW) for i in range(bookings)]
    with BookingService(database) as service:
        return {event["event_id"] for event in service.decide_all(requests)}


def landed(folder: Path) -> list[str]:
    """Return the event ids that a reader finds."""
    return [
        json.loads(line)["event_id"]
        for file in sorted(folder.rglob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]


@pytest.mark.parametrize(
    ("moment", "times"), [("before the file has its name", 1), ("before the outbox is told", 2)], ids=str
)
def test_a_publisher_that_is_killed_repeats_but_never_loses(tmp_path: Path, moment: str, times: int) -> None:
    """After the next run every event is there: once if nothing had been landed, else twice."""
    decided = some_events(tmp_path / "bookings.sqlite", 20)
    landing = tmp_path / "landing"
    ended = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path / "bookings.sqlite"), str(landing), moment],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    with BookingService(tmp_path / "bookings.sqlite") as service:
        assert publish(service, to_landing(landing, "2013-01-01")) == len(decided)
        assert publish(service, to_landing(landing, "2013-01-01")) == 0
    found = landed(landing)
    assert set(found) == decided
    assert len(found) == times * len(decided)


def test_events_come_in_their_order_and_in_pieces(tmp_path: Path) -> None:
    """A limit cuts the outbox into files; nothing is left out or repeated between them."""
    decided = some_events(tmp_path / "bookings.sqlite", 20)
    with BookingService(tmp_path / "bookings.sqlite") as service:
        while publish(service, to_landing(tmp_path / "landing", "2013-01-01"), limit=8):
            pass
    files = sorted((tmp_path / "landing").rglob("*.jsonl"))
    sequences = [json.loads(line)["sequence"] for file in files for line in file.read_bytes().splitlines()]
    assert len(files) == 3
    assert sequences == list(range(1, len(decided) + 1))


def test_a_delivery_that_fails_leaves_the_outbox_as_it_was(tmp_path: Path) -> None:
    """What could not be delivered is due again."""
    decided = some_events(tmp_path / "bookings.sqlite", 5)

    def fail(_: object) -> None:
        raise OSError("The disk is full.")

    with BookingService(tmp_path / "bookings.sqlite") as service:
        with pytest.raises(OSError, match="full"):
            publish(service, fail)
        assert publish(service, to_landing(tmp_path / "landing", "2013-01-01")) == len(decided)


def test_writers_of_one_folder_never_replace_each_other(tmp_path: Path) -> None:
    """Eight threads land files under one name; every line is there in the end."""

    def write(thread: int) -> None:
        for i in range(10):
            land_lines(tmp_path, "booking", [f"{thread}/{i}/{line}".encode() for line in range(5)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for file in tmp_path.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 8 * 10 * 5
    assert not list(tmp_path.glob(".*"))
