"""dbt's own tests of the business rules fail when a rule is broken, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.dbt_project.conftest import SmallArchive, Warehouse

if TYPE_CHECKING:
    from pathlib import Path


def flight(sequence: int, flight_id: str, capacity: int) -> dict[str, Any]:
    """A flight is scheduled."""
    return event(
        sequence,
        "flight_scheduled",
        flight_id,
        carrier="UA",
        flight_number=1,
        origin="EWR",
        destination="IAH",
        departs_at="2013-03-01T23:00:00-05:00",
        capacity=capacity,
    )


def booking(sequence: int, flight_id: str, seat: str) -> dict[str, Any]:
    """A seat is booked, in a booking that is named after the decision."""
    return event(
        sequence,
        "booking_confirmed",
        flight_id,
        booking_id=f"B{sequence}",
        passenger_id="P1",
        seat=seat,
        price=99.5,
    )


def event(sequence: int, event_type: str, flight_id: str, **fields: Any) -> dict[str, Any]:
    """A decision of the flight booking service."""
    return {
        "event_id": f"{event_type}-{sequence}",
        "event_type": event_type,
        "schema_version": 1,
        "occurred_at": "2013-03-01T10:00:00-05:00",
        "sequence": sequence,
        "flight_id": flight_id,
        **fields,
    }


def cart_of_one_item(cart_id: str, total_cents: int) -> list[dict[str, Any]]:
    """Two pieces at 1.50 each, and what the service charges for them."""
    common = {"schema_version": 2, "occurred_at": "2013-03-01T10:00:00Z", "cart_id": cart_id}
    item = {"product_id": "S1", "quantity": 2, "unit_price_cents": 150}
    return [
        {"event_id": f"{cart_id}-1", "event_type": "cart_opened", "cart_version": 1, "customer_id": "C1"}
        | common,
        {"event_id": f"{cart_id}-2", "event_type": "item_added", "cart_version": 2} | item | common,
        {
            "event_id": f"{cart_id}-3",
            "event_type": "cart_checked_out",
            "cart_version": 3,
            "total_cents": total_cents,
        }
        | common,
    ]


def built(tmp_path: Path, bookings: list[dict[str, Any]], carts: list[dict[str, Any]]) -> list[str]:
    """What fails when these events are built."""
    archive = SmallArchive(tmp_path / "archive")
    archive.commit("bookings", bookings)
    archive.commit("cart_events", carts)
    problems = Warehouse(tmp_path / "warehouse").dbt(
        "build", "--exclude-resource-type", "unit_test", snapshot=archive.snapshot()
    )
    return [problem for problem in problems if ": skipped:" not in problem]


def test_a_seat_that_is_sold_twice_stops_the_build(tmp_path: Path) -> None:
    """All decisions between the two sales are known, and none gave the seat back."""
    sales = [flight(1, "F1", 9), booking(2, "F1", "1A"), booking(3, "F1", "1B"), booking(4, "F1", "1A")]
    (problem,) = built(tmp_path, sales, [])
    assert problem.startswith("no_seat_is_sold_twice: fail: Got 1 result")


def test_an_event_that_is_still_on_its_way_is_no_double_sale(tmp_path: Path) -> None:
    """Decision 3 may have given the seat back; the seat counts once, for the later booking."""
    sales = [flight(1, "F1", 9), booking(2, "F1", "1A"), booking(4, "F1", "1A")]
    assert built(tmp_path, sales, cart_of_one_item("K1", 300)) == []
    warehouse = Warehouse(tmp_path / "warehouse")
    assert warehouse.rows("select booked_seats, taken_seats from seat_availability") == [(1, ["1A"])]


def test_more_passengers_than_seats_stop_the_build(tmp_path: Path) -> None:
    """Different seats, but more of them than the plane has."""
    sales = [flight(1, "F1", 1), booking(2, "F1", "1A"), booking(3, "F1", "1B")]
    (problem,) = built(tmp_path, sales, [])
    assert problem.startswith("load_is_never_above_capacity: fail: Got 1 result")


def test_a_cart_that_costs_something_else_than_its_items_stops_the_build(tmp_path: Path) -> None:
    """Ours and the service's sum differ by a cent, though all events are known."""
    (problem,) = built(tmp_path, [], cart_of_one_item("K1", 300) + cart_of_one_item("K2", 301))
    assert problem.startswith("a_checked_out_cart_costs_what_is_in_it: fail: Got 1 result")
