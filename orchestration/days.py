"""The days of day level tables as Dagster's partitions: which there are, and which of them a build has changed.

What doesn't live here: computing days again (`event_archive.recompute`), and the assets (`assets_warehouse`).
"""

import datetime as dt
import logging
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb

from event_archive.warehouse import published_file

MARKED_DAYS = 600
"""How many days a run marks at most, of all tables together: Dagster's SQLite files take some 15 to 100 of them a second."""

_STILL_COMING_DAYS = 31
"""Where the newest day is older than that, no new days are expected."""
_FAR_FUTURE = dt.timedelta(days=731)
"""Days later than that are taken for a mistake in an event, and are no partitions."""
_FIRST = dt.date(1970, 1, 1)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DayTable:
    """A table of which a row is about a day.

    Attributes:
        schema: Its schema.
        name: Its name.
        column: The column of the day.
    """

    schema: str
    name: str
    column: str

    @property
    def relation(self) -> str:
        """The table as SQL."""
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"


def day_partitions(
    warehouse: Path, tables: Collection[DayTable], *, today: dt.date | None = None
) -> dg.DailyPartitionsDefinition:
    """Define the days from the first one that the published tables hold.

    They go on as time does, or as far as the tables hold days to come; they end with the last day held where nothing new has come for a
    month.

    Args:
        warehouse: Folder of the warehouse.
        tables: The day level tables.
        today: Of the clock, UTC.
    """
    today = today or dt.datetime.now(dt.UTC).date()
    held = _days_held(warehouse, tables)
    first, last = held or (today, today)
    first = min(max(first, _FIRST), today)
    last = min(last, today + _FAR_FUTURE)
    if last < today - dt.timedelta(days=_STILL_COMING_DAYS):
        end = last + dt.timedelta(days=1)  # Dagster's end is the first day that isn't there any more
        return dg.DailyPartitionsDefinition(start_date=first.isoformat(), end_date=end.isoformat())
    # Without an offset Dagster ends with yesterday.
    return dg.DailyPartitionsDefinition(
        start_date=first.isoformat(), end_offset=max(1, (last - today).days + 1)
    )


def changed_days(file: Path, table: DayTable) -> dict[str, int]:
    """Name the days of a table that its newest run has computed, oldest first, each with the rows that it has now.

    Args:
        file: File of the build in which that run was.
        table: A day level table.
    """
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        rows = _rows_by_day(connection, table)
        noted = connection.execute(
            "select version from meta.models where model = ? and full_at < version", [table.name]
        ).fetchone()
        if noted is None:  # it was computed in full
            return rows
        # A day may have lost its last row.
        changed = connection.execute(
            f"select distinct cast({_quoted(table.column)} as date) from meta.{_quoted(f'changes__{table.name}')} where change_version = ?",
            [noted[0]],
        ).fetchall()
    return {day: rows.get(day, 0) for day in sorted(day.isoformat() for (day,) in changed if day is not None)}


def all_days(file: Path, table: DayTable) -> dict[str, int]:
    """Name the days of a table that a build holds, oldest first, each with its rows.

    Args:
        file: The build's file.
        table: A day level table.
    """
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return _rows_by_day(connection, table)


def _rows_by_day(connection: duckdb.DuckDBPyConnection, table: DayTable) -> dict[str, int]:
    found = connection.execute(
        f"select cast({_quoted(table.column)} as date) as day, count(*) from {table.relation} where day is not null group by day order by day"
    ).fetchall()
    return {day.isoformat(): rows for day, rows in found}


def _days_held(warehouse: Path, tables: Collection[DayTable]) -> tuple[dt.date, dt.date] | None:
    file = published_file(warehouse)
    if file is None:
        return None
    held: list[dt.date] = []
    try:
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            for table in tables:
                held += _bounds(connection, table)
    except duckdb.Error as error:  # damaged, or of another version: what is in the UI must not depend on it
        log.warning("The days of the published tables can't be read: %s", error)
    return (min(held), max(held)) if held else None


def _bounds(connection: duckdb.DuckDBPyConnection, table: DayTable) -> list[dt.date]:
    day = _quoted(table.column)
    try:
        found = connection.execute(
            f"select cast(min({day}) as date), cast(max({day}) as date) from {table.relation}"
        ).fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):  # a model that is newer than the build
        return []
    return [day for day in found or () if day is not None]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
