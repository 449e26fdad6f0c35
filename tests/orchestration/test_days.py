"""The days of day level tables: which there are, and which of them a run has computed."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from event_archive.warehouse import published_file
from orchestration.days import DayTable, all_days, changed_days, day_partitions
from tests.warehouse.builders import published

if TYPE_CHECKING:
    from pathlib import Path

TODAY = dt.date(2026, 3, 15)
CARTS = DayTable("main", "carts_daily", "started_date")
LOAD = DayTable(
    "intermediate", "load_daily", "departure_date"
)  # a mart isn't the only thing that may be by day


def table(table: DayTable, *days: str) -> str:
    """A day level table, with a row for each of the days."""
    values = ", ".join(f"(date '{day}')" for day in days)
    return (
        f"create schema if not exists {table.schema}; "
        f"create or replace table {table.relation} as select * from (values {values}) as days ({table.column})"
    )


def carts(*days: str) -> str:
    """The table of carts."""
    return table(CARTS, *days)


def load(*days: str) -> str:
    """The table of departures."""
    return table(LOAD, *days)


def days_of(warehouse: Path) -> list[str]:
    """The keys of all partitions."""
    return list(
        day_partitions(warehouse, (CARTS, LOAD), today=TODAY).get_partition_keys(
            dt.datetime(2026, 3, 15, tzinfo=dt.UTC)
        )
    )


def test_before_anything_is_published_the_days_begin_today(tmp_path: Path) -> None:
    """The first refresh marks older ones; they are shown when the definitions are loaded again."""
    assert days_of(tmp_path) == ["2026-03-15"]


def test_the_days_begin_with_the_first_that_any_table_holds_and_go_on_until_today(tmp_path: Path) -> None:
    """Also where the newest is a few days old."""
    published(tmp_path, carts("2026-03-10"), load("2026-03-08", "2026-03-12"))
    days = days_of(tmp_path)
    assert (days[0], days[-1], len(days)) == ("2026-03-08", "2026-03-15", 8)


def test_days_to_come_are_days_too(tmp_path: Path) -> None:
    """Departures are announced ahead."""
    published(tmp_path, load("2026-03-14", "2026-04-02"))
    assert days_of(tmp_path)[-1] == "2026-04-02"


def test_where_nothing_has_come_for_a_month_the_days_end_with_the_data(tmp_path: Path) -> None:
    """A history that has ended isn't shown as missing days for ever."""
    published(tmp_path, carts("2013-01-01", "2013-12-31"))
    days = days_of(tmp_path)
    assert (days[0], days[-1], len(days)) == ("2013-01-01", "2013-12-31", 365)


@pytest.mark.parametrize(("day", "end"), [("2026-02-12", "2026-03-15"), ("2026-02-11", "2026-02-11")])
def test_a_month_is_31_days(tmp_path: Path, day: str, end: str) -> None:
    """On either side."""
    published(tmp_path, carts("2026-01-01", day))
    assert days_of(tmp_path)[-1] == end


def test_a_mistake_in_an_event_does_not_make_a_million_partitions(tmp_path: Path) -> None:
    """Days of the year 9999, or 1, are in the table, and no partitions."""
    published(tmp_path, carts("0001-01-01", "2026-03-10", "9999-12-31"))
    days = days_of(tmp_path)
    assert days[0] == "1970-01-01"
    assert days[-1] < "2028-04-01"


def test_a_table_that_is_not_there_yet_and_one_without_rows_are_passed_over(tmp_path: Path) -> None:
    """The others say which days there are."""
    published(tmp_path, "create table carts_daily (started_date date)")
    assert days_of(tmp_path) == ["2026-03-15"]
    published(tmp_path, load("2026-03-14"))
    assert days_of(tmp_path) == ["2026-03-14", "2026-03-15"]


def test_an_unreadable_warehouse_does_not_stop_the_definitions_from_loading(tmp_path: Path) -> None:
    """The UI is where one sees that something is wrong."""
    published(tmp_path, carts("2026-03-10"))
    file = published_file(tmp_path)
    assert file is not None
    file.chmod(0o644)
    file.write_bytes(b"no database" * 1000)
    assert days_of(tmp_path) == ["2026-03-15"]


NOTES = (
    "create schema if not exists meta",
    "create or replace table meta.models (model varchar, version bigint, full_at bigint)",
)


def test_a_model_that_was_computed_in_full_has_computed_all_its_days(tmp_path: Path) -> None:
    """Each with its rows, the oldest first."""
    published(
        tmp_path,
        carts("2026-03-11", "2026-03-10", "2026-03-11"),
        *NOTES,
        "insert into meta.models values ('carts_daily', 1, 1)",
    )
    file = published_file(tmp_path)
    assert file is not None
    assert changed_days(file, CARTS) == {"2026-03-10": 1, "2026-03-11": 2}


def test_an_incremental_run_has_computed_the_days_that_it_noted_also_those_that_went(tmp_path: Path) -> None:
    """Of its newest version only."""
    published(
        tmp_path,
        carts("2026-03-09", "2026-03-10", "2026-03-11"),
        *NOTES,
        "insert into meta.models values ('carts_daily', 3, 1)",
        "create table meta.changes__carts_daily (started_date date, change_version bigint, is_added boolean)",
        "insert into meta.changes__carts_daily values ('2026-03-09', 2, true), ('2026-03-11', 3, false), "
        "('2026-03-11', 3, true), ('2026-03-08', 3, false)",
    )
    file = published_file(tmp_path)
    assert file is not None
    assert changed_days(file, CARTS) == {"2026-03-08": 0, "2026-03-11": 1}
    assert list(all_days(file, CARTS)) == ["2026-03-09", "2026-03-10", "2026-03-11"]
