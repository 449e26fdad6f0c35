"""The marts of the demo say what its services know, although lines came twice, late, disordered and broken."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tests.dbt_project.conftest import STREAMS

if TYPE_CHECKING:
    from decimal import Decimal

    from tests.dbt_project.conftest import Demo, SmallArchive, Warehouse


def cents(amount: Decimal | None) -> int:
    """A dollar amount in whole cents."""
    assert amount is not None
    assert amount * 100 == int(amount * 100)
    return int(amount * 100)


def test_every_booking_of_the_service_is_in_bookings_as_the_service_knows_it(
    demo: Demo, demo_warehouse: Warehouse
) -> None:
    """No booking is missing, none is invented, and each has its true passenger, seat, status, fare and number of seat changes."""
    true = {
        (
            b["booking_id"],
            b["flight_id"],
            b["passenger_id"],
            b["seat"],
            b["status"],
            b["price_cents"],
            b["changes"],
        )
        for b in demo.true("bookings")
    }
    rows = demo_warehouse.rows(
        "select booking_id, flight_id, passenger_id, seat, status, fare_usd, seat_changes from bookings"
    )
    built = {(*row[:5], cents(row[5]), row[6]) for row in rows}
    assert len(rows) == len(true) > 1000
    assert built == true


def test_every_flight_has_its_true_seats_and_departure(demo: Demo, demo_warehouse: Warehouse) -> None:
    """Seats taken are the living bookings, and the departure is the last one announced."""
    true = {
        (
            f["flight_id"],
            datetime.fromisoformat(f["departs_at"]),
            f["capacity"],
            f["seats_taken"],
            f["capacity"] - f["seats_taken"],
        )
        for f in demo.true("flights")
    }
    rows = demo_warehouse.rows(
        "select flight_id, departs_at, capacity_seats, booked_seats, available_seats from seat_availability"
    )
    assert set(rows) == true
    assert len(rows) == len(true) > 10


def test_departures_are_counted_on_their_local_date(demo: Demo, demo_warehouse: Warehouse) -> None:
    """Also where the service wrote the departure in UTC: a flight that was never moved leaves on the date that its id tells."""
    rows = demo_warehouse.rows(
        "select departure_date::varchar, right(flight_id, 10) from intermediate.int_flight_booking__flights where reschedules = 0"
    )
    assert len(rows) > 10
    assert all(departure_date == date_in_id for departure_date, date_in_id in rows)
    loads = demo_warehouse.rows("select sum(flights), sum(booked_seats) from flight_load_daily")
    assert loads == demo_warehouse.rows("select count(*), sum(booked_seats) from seat_availability")


def test_every_cart_has_its_true_end_items_and_total(demo: Demo, demo_warehouse: Warehouse) -> None:
    """Every cart is there with its customer, its end and exactly the items, quantities and prices that the service knows."""
    true_carts = {(c["cart_id"], c["customer_id"], c["status"], c["total_cents"]) for c in demo.true("carts")}
    true_items = {
        (c["cart_id"], product, quantity, price)
        for c in demo.true("carts")
        for product, (quantity, price) in c["items"].items()
    }
    carts = demo_warehouse.rows("select cart_id, customer_id, status, value_usd from carts")
    items = demo_warehouse.rows("select cart_id, product_id, quantity, unit_price_usd from cart_items")
    assert {(*row[:3], cents(row[3])) for row in carts} == true_carts
    assert {(*row[:3], cents(row[3])) for row in items} == true_items
    assert len(carts) == len(true_carts) > 500
    assert len(items) == len(true_items) > 500


def test_daily_marts_count_each_cart_and_each_sale_once(demo: Demo, demo_warehouse: Warehouse) -> None:
    """Sums over the days are the sums over the true carts."""
    carts = demo.true("carts")
    abandoned = [c for c in carts if c["status"] == "abandoned"]
    bought = [c for c in carts if c["status"] == "checked_out"]
    ((all_carts, abandoned_carts, abandoned_value),) = demo_warehouse.rows(
        "select sum(carts), sum(abandoned_carts), sum(abandoned_value_usd) from cart_abandonment_daily"
    )
    assert (all_carts, abandoned_carts) == (len(carts), len(abandoned))
    assert cents(abandoned_value) == sum(c["total_cents"] for c in abandoned)
    ((units, value, additions),) = demo_warehouse.rows(
        "select sum(units_ordered), sum(ordered_value_usd), sum(additions) from product_demand_daily"
    )
    assert units == sum(quantity for c in bought for quantity, _ in c["items"].values())
    assert cents(value) == sum(c["total_cents"] for c in bought)
    event_types: dict[str, int] = demo.counts("cart_events")["event_types"]  # type: ignore[assignment]
    assert additions == event_types["item_added"]


def test_every_archived_event_is_accepted_rejected_or_a_duplicate(
    demo: Demo, demo_archive: SmallArchive, demo_warehouse: Warehouse
) -> None:
    """The three add up to the archive's count, and each is what the generator says it put in."""
    for stream, staging in zip(
        STREAMS, ("stg_flight_booking__bookings", "stg_shopping_cart__cart_events"), strict=True
    ):
        ((accepted, rejected, duplicates),) = demo_warehouse.rows(
            f"select (select count(*) from staging.{staging}), (select count(*) from staging.{staging}_rejected), "
            f"(select count(*) from staging.{staging}_duplicates)"
        )
        counts = demo.counts(stream)
        assert accepted + rejected + duplicates == demo_archive.events[stream] == counts["lines"]
        assert accepted == counts["true_events"]
        assert rejected == counts["malformed_lines"]
        assert duplicates == counts["duplicate_lines"]
