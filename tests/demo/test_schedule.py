"""The schedule is the real one, and its seats are those of the planes."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from demo.schedule import DEFAULT_CAPACITY, Schedule, ScheduledFlight, seat_exists, seat_label


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    """Return the schedule of 2013."""
    return Schedule()


def test_a_known_flight_is_as_it_was(schedule: Schedule) -> None:
    """The first line of the data: United 1545 from Newark, with the 149 seats of N14228."""
    flights = schedule.flights_on(date(2013, 1, 1))
    flight = next(flight for flight in flights if flight.flight_id == "UA1545-EWR-2013-01-01")
    assert flight.departs_at.isoformat() == "2013-01-01T05:15:00-05:00"
    assert flight == ScheduledFlight(
        "UA1545-EWR-2013-01-01", "UA", 1545, "EWR", "IAH", flight.departs_at, capacity=149
    )
    assert len(flights) == 842


def test_local_time_has_the_offset_of_its_day(schedule: Schedule) -> None:
    """Clocks went forward on 10 March 2013."""
    offsets = {
        day: {flight.departs_at.utcoffset() for flight in schedule.flights_on(date(2013, 3, day))}
        for day in (9, 10)
    }
    assert offsets == {9: {timedelta(hours=-5)}, 10: {timedelta(hours=-4)}}


def test_flight_ids_are_unique_and_every_plane_has_seats(schedule: Schedule) -> None:
    """Over two weeks, the last of which the data has."""
    flights = [flight for day in range(18, 32) for flight in schedule.flights_on(date(2013, 12, day))]
    assert len({flight.flight_id for flight in flights}) == len(flights) > 10_000
    assert all(flight.capacity > 0 for flight in flights)
    assert any(flight.capacity == DEFAULT_CAPACITY for flight in flights)


def test_a_day_without_flights_is_empty(schedule: Schedule) -> None:
    """The data ends with 2013."""
    assert schedule.flights_on(date(2014, 1, 1)) == []


def test_a_plane_has_exactly_its_seats() -> None:
    """Rows of six; the last one may be shorter."""
    assert [seat_label(number) for number in (0, 5, 6, 138)] == ["1A", "1F", "2A", "24A"]
    assert all(seat_exists(seat_label(number), 139) for number in range(139))
    for none in ("24B", "25A", "0A", "01A", "1G", "1a", "A1", "A", "1", "", "-1A", "²A", "1 A"):
        assert not seat_exists(none, 139)
