"""Computing a range again: what was damaged within it is mended, what lies outside stays, and nothing else comes of it."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.errors import UsageError
from event_archive.recompute.request import Request
from event_archive.recompute.run import Ending
from tests.recompute.place import REBUILD, orders, visits
from tests.recompute.test_refresh import no_dbt

if TYPE_CHECKING:
    from tests.recompute.place import Place

DAYS = (dt.date(2024, 1, 2), dt.date(2024, 1, 3))
NOW = dt.datetime.now(dt.UTC).date()
TODAY = (NOW - dt.timedelta(days=1), NOW + dt.timedelta(days=1))


def damage(place: Place, *statements: str) -> None:
    """Writes into the published file, as nobody should."""
    place.published.chmod(0o644)
    with closing(duckdb.connect(str(place.published))) as connection:
        for statement in statements:
            connection.execute(statement)
    place.published.chmod(0o444)


def test_days_are_mended_and_only_those(shop: Place) -> None:
    """A wrong sum, a day that is missing, a row too many; events that are new stay new for the next refresh."""
    honest = shop.contents()["main.sales_daily"]
    damage(
        shop,
        "update sales_daily set sales_cents = -1 where ordered_on in ('2024-01-02', '2024-01-04')",
        "delete from sales_daily where ordered_on = '2024-01-03'",
    )
    shop.archive("orders", orders(20, 25))
    done = shop.recompute(Request(is_rebuild=True, select=("sales_daily",), days=DAYS))
    assert done.ending is Ending.PUBLISHED
    assert done.new_since_published == {}
    mended = shop.contents()["main.sales_daily"]
    assert set(honest) - set(mended) == {row for row in honest if "2024, 1, 4" in row}
    assert shop.rows("select count(*) from meta.asked_days") == [(0,)]
    damage(shop, "update sales_daily set sales_cents = 6300 where ordered_on = '2024-01-04'")
    shop.recompute(Request(is_rebuild=True, days=(DAYS[0], dt.date(2024, 1, 31))))
    assert shop.contents()["main.sales_daily"] == honest
    assert shop.recompute().new_since_published == {"orders": 5}
    assert shop.contents() == shop.rebuilt()
    digests = shop.digests()
    shop.recompute(REBUILD)
    assert shop.digests() == digests


def test_what_was_archived_on_some_days_is_reduced_again(shop: Place) -> None:
    """In every entity and day level table that is made of it, or in one, with what it reads."""
    damage(
        shop,
        "update orders set amount_cents = -1 where order_id = 'order 3'",
        "delete from customers where customer = 'customer 1'",
        "insert into sales_daily values ('2024-01-02', 1, 1)",
    )
    done = shop.recompute(Request(is_rebuild=True, ingested=TODAY))
    assert done.ending is Ending.PUBLISHED
    assert shop.contents() == shop.rebuilt()
    assert shop.rows("select count(*) from meta.asked_commits") == [(0,)]
    # A range counts as nothing consumed: what has changed by it is looked at once more, and then no more.
    assert shop.recompute().new_since_published == {}
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    digests = shop.digests()
    shop.archive("orders", orders(18, 23))
    shop.recompute()
    assert shop.digests() != digests
    assert shop.contents() == shop.rebuilt()


def test_what_can_not_be_computed_for_a_range_is_refused(shop: Place) -> None:
    """Models of other levels, days on which nothing came, two ranges at once, a range of a past state, and rows of another code."""
    cases = [
        (
            Request(is_rebuild=True, select=("orders",), days=DAYS),
            "'orders' can't be computed for a range of days; these can: sales_daily",
        ),
        (
            Request(is_rebuild=True, select=("totals",), ingested=TODAY),
            "these can: orders, sales_daily, customers|these can: ",
        ),
        (Request(is_rebuild=True, ingested=DAYS), "Nothing was archived from 2024-01-02 to 2024-01-03"),
        (Request(is_rebuild=True, ingested=TODAY, days=DAYS), "not for both"),
        (Request(is_rebuild=True, days=DAYS, as_of="live"), "without --as-of and --into"),
    ]
    for request, sentence in cases:
        with pytest.raises(UsageError, match=sentence):
            shop.recompute(request, fill=no_dbt)
    shop.edit("models/marts/orders.sql", "order by ordered_on, event_id", "order by event_id")
    for request in (Request(is_rebuild=True, days=DAYS), Request(is_rebuild=True, ingested=TODAY)):
        with pytest.raises(
            UsageError,
            match=r"are of another code than the project's .*; a range of them alone would mix the two",
        ):
            shop.recompute(request, fill=no_dbt)
    assert list((shop.warehouse / "building").iterdir()) == []


def test_days_are_written_as_two_dates_or_one(shop: Place) -> None:
    """Anything else is a wrong usage; so is a range of tables that aren't there."""
    for text, sentence in (
        ("2024-02-01..2024-01-01", "the first day comes after the last"),
        ("january", "write two days"),
    ):
        assert sentence in shop.run("rebuild", "--days", text, expect=2)
    shop.archive("visits", visits(20, 21))
    for link in (shop.warehouse / "current.duckdb",):
        link.unlink()
    assert "There are no tables yet of which a range" in shop.run("rebuild", "--days", "2024-01-01", expect=2)
