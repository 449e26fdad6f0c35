"""In a refresh, checks look at what has changed: they find what checks of everything would find, and look at all of it when they have to.

That they don't look at the rest is seen by rows that are put into the published file behind everybody's back.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from event_archive.recompute.dbt import BuildFailed
from event_archive.recompute.request import Request
from tests.recompute.place import DBT_PROJECT, REBUILD, Place, new_place, visits

if TYPE_CHECKING:
    from pathlib import Path

CHECKS = """
models:
  - name: stg_orders
    columns:
      - {name: event_id, data_tests: [unique, not_null]}
      - name: amount
        data_tests: [{is_at_least: {arguments: {minimum: -1000}}}]
  - name: stg_visits
    columns:
      - name: customer
        data_tests:
          - not_null
          - relationships: {arguments: {to: ref('orders'), field: customer}}
  - name: orders
    description: Each order as it was last told of, one row per order.
    data_tests:
      - unique_combination: {arguments: {columns: [customer, ordered_on]}}
      - holds_three_rows_or_more
    columns:
      - {name: order_id, data_type: varchar, data_tests: [unique]}
      - name: customer
        data_type: varchar
        data_tests:
          - accepted_values: {arguments: {values: [ann, bob, cid, dan]}}
          - relationships: {arguments: {to: ref('customers'), field: customer}}
      - {name: ordered_on, data_type: date, data_tests: [unique]}
      - name: amount_cents
        data_type: bigint
        data_tests:
          - is_at_least: {arguments: {minimum: 200}, config: {severity: warn}, name: is_worth_it}
  - name: sales_daily
    columns:
      - {name: ordered_on, data_type: date, data_tests: [unique]}
      - {name: orders, data_type: bigint}
      - {name: sales_cents, data_type: bigint}
  - name: customers
    columns:
      - {name: customer, data_type: varchar, data_tests: [unique]}
      - {name: visits, data_type: bigint}
      - {name: orders, data_type: bigint}
  - name: best_customers
    columns:
      - {name: customer, data_type: varchar}
      - {name: orders, data_type: bigint}
  - name: totals
    columns:
      - {name: orders, data_type: bigint, data_tests: [not_null]}
      - {name: visits, data_type: bigint}
"""
OF_ONES_OWN = "{% test holds_three_rows_or_more(model) %}select 1 where (select count(*) from {{ model }}) < 3{% endtest %}"
NEGATIVE = "select * from {{ changed('orders') }} where amount_cents < 0"


def order(number: int, customer: str | None, day: int, amount: int = 5, **fields: Any) -> dict[str, Any]:
    """An order."""
    return {
        "event_id": f"o{number}",
        "order_id": f"order {number}",
        "customer": customer,
        "ordered_on": f"2024-01-{day:02}",
        "amount": amount,
        **fields,
    }


@pytest.fixture(scope="session")
def built_checked_shop(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shop with checks of all kinds, published twice: then nothing is noted of it that one refresh alone notes."""
    place = new_place(tmp_path_factory.mktemp("checked_shop"))
    (place.project / "models" / "marts" / "marts.yml").write_text(CHECKS)
    shutil.copytree(DBT_PROJECT / "tests" / "generic", place.project / "tests" / "generic")
    (place.project / "tests" / "generic" / "own.sql").write_text(OF_ONES_OWN)
    (place.project / "tests" / "no_sale_is_negative.sql").write_text(NEGATIVE)
    place.archive("orders", [order(1, "ann", 1, amount=1), order(2, "bob", 2), order(3, "cid", 3)])
    place.archive("visits", [{"event_id": "v1", "customer": "ann"}, {"event_id": "v2", "customer": "bob"}])
    place.recompute()
    place.archive("orders", [order(4, "dan", 4)])
    place.archive("visits", [{"event_id": "v3", "customer": "cid"}])
    place.recompute()
    return place


@pytest.fixture
def checked_shop(built_checked_shop: Place, tmp_path: Path) -> Place:
    """A shop with checks of all kinds, and its tables."""
    shutil.copytree(built_checked_shop.folder, tmp_path / "shop", symlinks=True)
    return Place(tmp_path / "shop")


BAD_EVENTS = {
    "a value that isn't allowed": ("orders", order(9, "eve", 9), "accepted_values_orders_customer"),
    "a value that is missing": ("visits", {"event_id": "v9", "customer": None}, "not_null_stg_visits"),
    "a value that is too small": (
        "orders",
        order(9, "ann", 9, amount=-2000),
        "is_at_least_stg_orders_amount",
    ),
    "a row of a check of one's own": ("orders", order(9, "ann", 9, amount=-1), "no_sale_is_negative"),
    "a new row that equals an old one": ("orders", order(9, "ann", 1), "unique_combination_orders"),
    "a value that another row has": ("orders", order(9, "bob", 1), "unique_orders_ordered_on"),
    "an old row that comes to equal another": (
        "orders",
        order(3, "dan", 4, event_id="o9"),
        "unique_combination_orders",
    ),
    "a new row that refers to nothing": (
        "visits",
        {"event_id": "v9", "customer": "dora"},
        "relationships_stg_visits",
    ),
    # Ann's only order turns out to be Dan's; her visit was archived long ago.
    "an old row that refers to what has gone": (
        "orders",
        order(1, "dan", 5, event_id="o9"),
        "relationships_stg_visits",
    ),
}


@pytest.mark.parametrize("what", BAD_EVENTS)
def test_what_comes_with_new_events_is_found(what: str, checked_shop: Place) -> None:
    """By the check that a rebuild would fail by too."""
    stream, event, check = BAD_EVENTS[what]
    live = checked_shop.live
    checked_shop.archive(stream, [event])
    with pytest.raises(BuildFailed, match=check):
        checked_shop.recompute()
    with pytest.raises(BuildFailed, match=check):
        checked_shop.recompute(REBUILD)
    assert checked_shop.live == live


def test_sound_events_pass(checked_shop: Place) -> None:
    """The checks of a refresh aren't stricter than those of a rebuild: a row moves, and nothing is there twice."""
    checked_shop.archive("orders", [order(2, "bob", 6, event_id="o9"), order(10, "bob", 2)])
    checked_shop.archive("visits", visits(0, 0))
    done = checked_shop.recompute()
    assert done.dbt is not None
    assert done.dbt.checks[0] == done.dbt.checks[1] > 10
    assert checked_shop.contents() == checked_shop.rebuilt()


def tamper(place: Place, *statements: str) -> None:
    """Changes the published file, as nobody may."""
    place.published.chmod(0o644)
    with closing(duckdb.connect(str(place.published))) as connection:
        for statement in statements:
            connection.execute(statement)


A_NEW_ORDER = order(9, "dan", 9)


def test_what_has_not_changed_is_not_looked_at(checked_shop: Place) -> None:
    """Rows that no event has touched since their checks passed cost nothing."""
    tamper(
        checked_shop,
        "update main.orders set amount_cents = -5 where order_id = 'order 1'",
        "update staging.stg_orders_decoded set amount = -5000 where event_id = 'o1'",
        "insert into staging.stg_visits values ('v8', null, 0)",
    )
    checked_shop.archive("orders", [A_NEW_ORDER])
    checked_shop.archive("visits", [{"event_id": "v9", "customer": "ann"}])
    checked_shop.recompute()


@pytest.mark.parametrize(
    ("file", "old", "new", "check"),
    [
        ("tests/no_sale_is_negative.sql", "amount_cents < 0", "0 > amount_cents", "no_sale_is_negative"),
        (
            "models/marts/marts.yml",
            "200}, config: {severity: warn}",
            "0}, config: {severity: error}",
            "is_worth_it",
        ),
        ("models/marts/marts.yml", "config: {severity: warn}, name: is_worth_it", "name: is_new", "is_new"),
        (
            "macros/checks.sql",
            "macro changed(model_name) -%}",
            "macro changed(model_name) %}",
            "no_sale_is_negative",
        ),
    ],
    ids=["a check's text", "a check's configuration", "a new check", "a macro"],
)
def test_a_check_that_is_another_looks_at_everything(
    file: str, old: str, new: str, check: str, checked_shop: Place
) -> None:
    """What has passed says nothing of what is asked now."""
    tamper(checked_shop, "update main.orders set amount_cents = -5 where order_id = 'order 1'")
    checked_shop.edit(file, old, new)
    checked_shop.archive("orders", [A_NEW_ORDER])
    with pytest.raises(BuildFailed, match=check):
        checked_shop.recompute()


def test_a_check_that_only_warns_looks_at_everything(checked_shop: Place) -> None:
    """It has let a row pass before, and still says so."""
    checked_shop.archive("orders", [A_NEW_ORDER])
    done = checked_shop.recompute()
    assert done.dbt is not None
    found = {name.split(".")[2]: result for name, result in done.dbt.results.items()}
    assert found["is_worth_it"]["status"] == "warn"
    assert found["is_worth_it"]["failures"] == 1


def test_a_check_of_another_kind_looks_at_everything(checked_shop: Place) -> None:
    """A count of rows makes no sense of a part of them."""
    checked_shop.archive("orders", [A_NEW_ORDER])
    checked_shop.recompute()
    tamper(checked_shop, "delete from main.orders where order_id <> 'order 2'")
    checked_shop.archive("orders", [order(11, "dan", 11)])
    with pytest.raises(BuildFailed, match="holds_three_rows_or_more"):
        checked_shop.recompute()


def test_a_table_that_is_computed_in_full_is_looked_at_whole(checked_shop: Place) -> None:
    """Whatever its rows were before, they may all be others."""
    checked_shop.edit("models/marts/orders.sql", "by ordered_on, event_id", "by event_id")
    checked_shop.archive("orders", [order(5, "ann", 1)])
    with pytest.raises(BuildFailed, match="unique_combination_orders"):
        checked_shop.recompute()


def test_a_check_that_missed_a_run_looks_at_everything(checked_shop: Place) -> None:
    """Of two runs it can't be told from their changes alone what is there now."""
    checked_shop.archive("orders", [order(9, "dan", 9)])
    checked_shop.recompute(Request(select=("stg_orders_decoded", "stg_orders")))
    tamper(
        checked_shop,
        "update meta.inputs set version = version - 1 where model like '%no_sale_is_negative%'",
        "update main.orders set amount_cents = -5 where order_id = 'order 1'",
    )
    with pytest.raises(BuildFailed, match="no_sale_is_negative"):
        checked_shop.recompute()


UNIT_TEST = """
unit_tests:
  - name: cents_are_a_hundredth
    model: orders
    overrides: {macros: {is_incremental: false}}
    given:
      - {input: ref('stg_orders'), rows: [{event_id: a, order_id: x, customer: ann, ordered_on: 2024-01-01, amount: 2}]}
    expect: {rows: [{order_id: x, amount_cents: 200}]}
"""


def test_unit_tests_are_run_once_for_each_state_of_the_code(checked_shop: Place) -> None:
    """They bring their own rows, so only another code or another expectation can make a difference."""
    (checked_shop.project / "models" / "unit_tests.yml").write_text(UNIT_TEST)

    def runs_them(request: Request) -> bool:
        done = checked_shop.recompute(request)
        assert done.dbt is not None
        return any(name.startswith("unit_test.") for name in done.dbt.results)

    assert runs_them(REBUILD)
    assert not runs_them(REBUILD)
    checked_shop.archive("orders", [A_NEW_ORDER])
    assert not runs_them(Request())
    checked_shop.edit("models/unit_tests.yml", "amount: 2}", "amount: 3}")
    with pytest.raises(BuildFailed, match="orders"):
        checked_shop.recompute(REBUILD)
    checked_shop.edit("models/unit_tests.yml", "amount_cents: 200", "amount_cents: 300")
    assert runs_them(REBUILD)
    checked_shop.edit("macros/in_cents.sql", "* 100", "* 50 * 2")
    assert runs_them(Request())
