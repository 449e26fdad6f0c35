"""The real dbt over the demo's events: refreshes in steps give what one rebuild gives, row for row, in every relation.

What doesn't live here: any history at all, and models that guess (`tests/recompute`).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.dbt_project.conftest import STREAMS, SmallArchive, Warehouse, copied_project, differences

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dbt_project.conftest import Demo


@pytest.fixture(scope="module")
def snapshots(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Snapshots of a growing archive in which many lines come commits after those that they should have preceded."""
    archive = SmallArchive(tmp_path_factory.mktemp("growing"))
    bookings, carts = (demo.disordered(stream) for stream in STREAMS)
    half, most = len(bookings) // 2, len(bookings) * 3 // 4
    found = []
    archive.commit("bookings", bookings[:half])
    archive.commit("cart_events", carts[:half])
    found.append(archive.snapshot())
    # Two commits between two refreshes.
    archive.commit("bookings", bookings[half : half + 100])
    archive.commit("bookings", bookings[half + 100 : most])
    archive.commit("cart_events", carts[half:most])
    found.append(archive.snapshot())
    # Nothing new of one stream.
    archive.commit("bookings", bookings[most : most + 200])
    found.append(archive.snapshot())
    archive.commit("bookings", bookings[most + 200 :])
    archive.commit("cart_events", carts[most:])
    found.append(archive.snapshot())
    return found


@pytest.fixture(scope="module")
def rebuilt(snapshots: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The last snapshot, built in one go."""
    warehouse = Warehouse(tmp_path_factory.mktemp("rebuilt"))
    assert warehouse.dbt("run", snapshot=snapshots[-1]) == []
    return warehouse


def tables(warehouse: Warehouse) -> list[str]:
    """All relations but those in which a build notes how it came about."""
    return [name for name in warehouse.relations() if not name.startswith("meta.")]


def test_refreshes_in_steps_give_what_one_rebuild_gives(
    snapshots: list[Path], rebuilt: Warehouse, tmp_path: Path
) -> None:
    """After four steps, one of them a run of a few models only, every relation is equal, and every test of dbt passes."""
    refreshed = Warehouse(tmp_path / "refreshed")
    # Afterwards some inputs of seat_availability and of carts are further than others.
    some_models = ("--select", "+int_flight_booking__seats", "seat_availability", "+cart_events", "carts")
    assert refreshed.dbt("run", snapshot=snapshots[0]) == []
    assert refreshed.dbt("run", *some_models, snapshot=snapshots[1]) == []
    assert refreshed.dbt("run", snapshot=snapshots[2]) == []
    assert refreshed.dbt("build", "--exclude-resource-type", "unit_test", snapshot=snapshots[3]) == []
    assert len(tables(rebuilt)) > 15
    assert tables(refreshed) == tables(rebuilt)
    assert differences(refreshed, rebuilt, tables(rebuilt)) == {}
    late = refreshed.rows(
        "select count(*) from staging.stg_flight_booking__bookings as late "
        "where exists (from staging.stg_flight_booking__bookings as earlier "
        "where earlier.booking_id = late.booking_id and earlier.commit_version < late.commit_version "
        "and earlier.sequence > late.sequence)"
    )
    duplicates_of_earlier_steps = refreshed.rows(
        "select count(*) from staging.stg_flight_booking__bookings_duplicates as again "
        "join staging.stg_flight_booking__bookings as first using (event_id) "
        "where first.commit_version < again.commit_version"
    )
    assert late[0][0] > 100
    assert duplicates_of_earlier_steps[0][0] > 10


def test_a_refresh_without_anything_new_changes_nothing(
    snapshots: list[Path], rebuilt: Warehouse, tmp_path: Path
) -> None:
    """Every model runs, and every relation stays as it was."""
    again = Warehouse(tmp_path / "again")
    again.folder.mkdir()
    shutil.copy(rebuilt.file, again.file)
    assert again.dbt("run", snapshot=snapshots[-1]) == []
    assert differences(again, rebuilt, tables(rebuilt)) == {}


def test_an_earlier_snapshot_is_not_mixed_into_a_later_build(
    snapshots: list[Path], rebuilt: Warehouse, tmp_path: Path
) -> None:
    """A build that has consumed more than the snapshot holds is refused, with what to do; nothing of it changes."""
    later = Warehouse(tmp_path / "later")
    later.folder.mkdir()
    shutil.copy(rebuilt.file, later.file)
    problems = later.dbt("run", snapshot=snapshots[0])
    assert any("beyond the pinned snapshot" in problem for problem in problems)
    assert differences(later, rebuilt) == {}


def cart_event(cart_version: int, event_type: str, **fields: Any) -> dict[str, Any]:
    """An event of cart K1."""
    return {
        "event_id": f"K1-{cart_version}",
        "event_type": event_type,
        "schema_version": 2,
        "occurred_at": f"2013-03-01T10:00:{cart_version:02d}Z",
        "cart_id": "K1",
        "cart_version": cart_version,
        **fields,
    }


def booking_event(sequence: int, event_type: str, **fields: Any) -> dict[str, Any]:
    """An event of booking B1 on flight F1."""
    return {
        "event_id": f"B1-{sequence}",
        "event_type": event_type,
        "schema_version": 1,
        "occurred_at": f"2013-03-01T10:00:{sequence:02d}-05:00",
        "sequence": sequence,
        "booking_id": "B1",
        "flight_id": "F1",
        **fields,
    }


@pytest.fixture(scope="module")
def two_commits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A cart that is filled and then emptied; a booking whose confirmation comes last, and its first event again."""
    archive = SmallArchive(tmp_path_factory.mktemp("two_commits"))
    checked_in = booking_event(4, "checked_in", seat="2B")
    archive.commit("bookings", [checked_in, booking_event(3, "seat_changed", from_seat="1A", to_seat="2B")])
    archive.commit(
        "cart_events",
        [
            cart_event(1, "cart_opened", customer_id="C1"),
            cart_event(2, "item_added", product_id="S1", quantity=2, unit_price_cents=150),
        ],
    )
    first = archive.snapshot()
    archive.commit(
        "bookings",
        [booking_event(2, "booking_confirmed", passenger_id="P1", seat="1A", price=99.5), checked_in],
    )
    archive.commit("cart_events", [cart_event(3, "item_removed", product_id="S1")])
    return [first, archive.snapshot()]


def test_late_events_put_right_what_was_built_without_them(two_commits: list[Path], tmp_path: Path) -> None:
    """A booking without its confirmation is there with what is known of it; the confirmation completes it; an emptied cart is empty."""
    warehouse = Warehouse(tmp_path / "warehouse")
    booking = "select status, seat, passenger_id, fare_usd::varchar, has_missing_events from bookings"
    states = "select state_number, status, seat, is_current from booking_history order by state_number"
    assert warehouse.dbt("run", snapshot=two_commits[0]) == []
    assert warehouse.rows(booking) == [("checked_in", "2B", None, None, True)]
    assert warehouse.rows("select quantity from cart_items") == [(2,)]
    assert warehouse.dbt("run", snapshot=two_commits[1]) == []
    assert warehouse.rows(booking) == [("checked_in", "2B", "P1", "99.50", False)]
    assert warehouse.rows(states) == [
        (1, "confirmed", "1A", False),
        (2, "confirmed", "2B", False),
        (3, "checked_in", "2B", True),
    ]
    assert warehouse.rows("select quantity from cart_items") == []
    assert warehouse.rows("select units, value_usd::varchar from carts") == [(0, "0.00")]


def test_rows_and_watermark_are_written_together_or_not_at_all(
    snapshots: list[Path], rebuilt: Warehouse, tmp_path: Path
) -> None:
    """A run that dies after a model's rows and its notes, just before the commit, leaves neither; the next run heals it."""
    warehouse = Warehouse(tmp_path / "warehouse")
    assert warehouse.dbt("run", snapshot=snapshots[2]) == []
    before = Warehouse(tmp_path / "before")
    shutil.copytree(warehouse.folder, before.folder)
    dying = Warehouse(warehouse.folder, copied_project(tmp_path))
    macros = dying.project / "macros" / "bookkeeping.sql"
    last_words = "group by input.stream"
    assert macros.read_text().count(last_words) == 1
    macros.write_text(macros.read_text().replace(last_words, f"{last_words}; select error('no more power')"))
    problems = dying.dbt("run", "--select", "config.materialized:incremental", snapshot=snapshots[3])
    assert any("no more power" in problem for problem in problems)
    assert differences(warehouse, before) == {}
    assert warehouse.dbt("run", snapshot=snapshots[3]) == []
    assert differences(warehouse, rebuilt, tables(rebuilt)) == {}
