"""Whatever is changed in a project: a refresh computes again what is made by it, that alone, says so, and comes to what a rebuild gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from event_archive.recompute.dbt import BuildFailed
from event_archive.recompute.run import Ending
from tests.recompute.place import orders, visits
from tests.recompute.test_refresh import no_dbt

if TYPE_CHECKING:
    from tests.recompute.place import Place

BELOW_ORDERS = {"sales_daily", "customers", "best_customers", "totals"}


@dataclass(frozen=True)
class Change:
    """A change of one file, what the plan says is stale, and what is built besides."""

    file: str
    old: str
    new: str
    changed: frozenset[str]
    """What has to be said of as changed itself."""
    below: frozenset[str]
    """What is computed again because it reads that."""


def a_change(file: str, old: str, new: str, changed: str, below: set[str]) -> Change:
    """A change of one file."""
    return Change(file, old, new, frozenset(changed.split()), frozenset(below))


CHANGES = {
    "a model": a_change(
        "models/marts/orders.sql", "by ordered_on, event_id", "by event_id", "orders", BELOW_ORDERS
    ),
    "a macro": a_change("macros/in_cents.sql", "* 100", "* 1000", "orders", BELOW_ORDERS),
    "a key": a_change(
        "models/marts/sales_daily.sql",
        "unique_key='ordered_on'",
        "unique_key=['ordered_on']",
        "sales_daily",
        set(),
    ),
    "a contract": a_change(
        "models/marts/marts.yml",
        "{name: visits, data_type: bigint}\n      - {name: orders",
        "{name: visits, data_type: int8}\n      - {name: orders",
        "customers",
        {"best_customers", "totals"},
    ),
    "a decoded path": a_change(
        "models/staging/stg_orders_decoded.sql",
        "'name': 'customer', 'type'",
        "'name': 'customer', 'path': 'buyer.name', 'type'",
        "stg_orders_decoded",
        {"stg_orders", "orders", *BELOW_ORDERS},
    ),
    "a view to a table": a_change(
        "models/marts/best_customers.sql",
        "materialized='view'",
        "materialized='table'",
        "best_customers",
        set(),
    ),
    "a table to a view": a_change(
        "models/marts/totals.sql", "select", "{{ config(materialized='view') }} select", "totals", set()
    ),
    "an incremental model to a table": a_change(
        "models/marts/sales_daily.sql",
        "materialized='incremental'",
        "materialized='table'",
        "sales_daily",
        set(),
    ),
    "a hook": a_change(
        "models/marts/totals.sql",
        "select",
        '{{ config(post_hook="update {{ this }} set visits = 0") }} select',
        "totals",
        set(),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=[name.replace(" ", "_") for name in CHANGES])
def test_what_was_changed_is_computed_again(change: Change, shop: Place) -> None:
    """With new events at the same time, so that going on from the old rows would show."""
    shop.edit(change.file, change.old, change.new)
    shop.archive("visits", visits(20, 22))
    done = shop.recompute()
    reasons = dict(done.plan.stale)
    assert {name for name, reason in reasons.items() if reason == "its code has changed"} == change.changed
    assert {name for name, reason in reasons.items() if reason.startswith("it reads ")} == change.below
    assert done.dbt is not None
    built = {unique_id.rpartition(".")[2] for unique_id in done.dbt.built}
    assert built == change.changed | change.below | {"stg_visits", "customers", "best_customers", "totals"}
    assert done.ending is Ending.PUBLISHED
    assert done.difference is not None
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    assert shop.contents() == shop.rebuilt()


def test_models_come_and_go(shop: Place) -> None:
    """A new one, one that is renamed, one that is removed and comes back, one that moves into another schema."""
    shop.edit("models/marts/totals.sql", "from", "from")
    totals = shop.project / "models" / "marts" / "totals.sql"
    everything = totals.with_name("everything.sql")
    everything.write_text(totals.read_text())
    contract = shop.project / "models" / "marts" / "marts.yml"
    text = contract.read_text()
    contract.write_text(text + text[text.index("  - name: totals") :].replace("totals", "everything"))
    done = shop.recompute()
    assert done.dbt is not None
    assert done.plan.stale == {}
    assert [unique_id.rpartition(".")[2] for unique_id in done.dbt.built] == ["everything"]
    # Removed: nothing has to be computed, so dbt isn't started.
    totals.unlink()
    contract.write_text(contract.read_text().replace("name: totals", "name: sum_of_all"))
    done = shop.recompute(fill=no_dbt)
    assert done.ending is Ending.PUBLISHED
    assert [name for _, name, _ in done.plan.gone] == ["totals"]
    assert done.difference is not None
    assert not done.difference.is_equal
    assert "totals" not in shop.digests()
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    # Renamed: the one goes, the other comes.
    everything.rename(totals.with_name("sum_of_all.sql"))
    shop.archive("orders", orders(20, 22))
    shop.recompute()
    assert {"everything", "totals"}.isdisjoint(shop.digests())
    assert shop.rows("from sum_of_all") == [(22, 20)]
    # Comes back, an incremental model; and one moves.
    daily = shop.project / "models" / "marts" / "sales_daily.sql"
    kept = daily.read_text()
    daily.unlink()
    shop.recompute(fill=no_dbt)
    shop.archive("orders", orders(22, 24))
    shop.recompute()
    daily.write_text(kept)
    visits_staging = shop.project / "models" / "staging" / "stg_visits.sql"
    visits_staging.write_text(visits_staging.read_text().replace("config(", "config(schema='raw', "))
    done = shop.recompute()
    assert [name for _, name, _ in done.plan.replaced] == ["stg_visits"]
    assert "raw.stg_visits" in shop.contents()
    assert "staging.stg_visits" not in shop.contents()
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    assert shop.contents() == shop.rebuilt()


def test_what_makes_no_rows_makes_no_work(shop: Place) -> None:
    """Descriptions, documents, tests, unused macros; and a variable that nobody asks for."""
    (shop.project / "README.md").write_text("About the models.\n")
    shop.edit("models/marts/marts.yml", "Each order as", "Each of all orders as")
    shop.edit("macros/in_cents.sql", "{% macro", "{% macro not_used() %}1{% endmacro %}\n{% macro")
    shop.edit("tests/no_sale_is_negative.sql", "< 0", "< -1")
    with (shop.project / "dbt_project.yml").open("a") as file:
        file.write("vars: {least: 2}\n")
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW


def test_a_variable_is_a_part_of_the_code_of_who_asks_for_it(shop: Place) -> None:
    """Its value is in no model's text."""
    with (shop.project / "dbt_project.yml").open("a") as file:
        file.write("vars: {least: 2}\n")
    shop.edit("models/marts/best_customers.sql", ">= 2", ">= {{ var('least') }}")
    shop.recompute()
    assert shop.rows("select count(*) from best_customers") == [(3,)]
    shop.edit("dbt_project.yml", "least: 2", "least: 7")
    done = shop.recompute()
    assert done.plan.stale == {"best_customers": "its code has changed"}
    assert shop.rows("select count(*) from best_customers") == [(2,)]


def test_a_seed_is_followed_like_a_model(shop: Place) -> None:
    """Read in once, again when its file has changed, with what reads it; also when it gets another column."""
    seeds = shop.project / "seeds"
    seeds.mkdir()
    (seeds / "regions.csv").write_text("customer,region\ncustomer 0,north\n")
    model = shop.project / "models" / "marts" / "regions_of_orders.sql"
    model.write_text(
        "{{ config(materialized='table', contract={'enforced': false}) }}\n"
        "select orders.order_id, regions.region from {{ ref('orders') }} as orders\n"
        "left join {{ ref('regions') }} as regions using (customer)"
    )
    shop.recompute()
    assert shop.rows("select count(region) from regions_of_orders") == [(7,)]
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    (seeds / "regions.csv").write_text("customer,region,since\ncustomer 0,north,1\ncustomer 1,south,2\n")
    done = shop.recompute()
    assert set(done.plan.stale) == {"regions", "regions_of_orders"}
    assert shop.rows("select count(region) from regions_of_orders") == [(14,)]
    assert shop.contents() == shop.rebuilt()


def test_a_contract_that_is_broken_is_told_by_its_columns(shop: Place) -> None:
    """What is published stays."""
    live = shop.live
    shop.edit("models/marts/totals.sql", "as bigint) as visits", "as hugeint) as visits")
    with pytest.raises(
        BuildFailed, match=r"model totals could not be built .*visits HUGEINT BIGINT data type mismatch"
    ):
        shop.recompute()
    assert shop.live == live


def test_a_model_of_which_nobody_knows_what_has_changed_is_refused(shop: Place) -> None:
    """An incremental reduce over ref() would be right the first time only; the sentence says what to write."""
    shop.edit("models/marts/orders.sql", "{{ history('stg_orders') }}", "{{ ref('stg_orders') }}")
    assert "write history('stg_orders') instead" in shop.run("refresh", expect=1)
