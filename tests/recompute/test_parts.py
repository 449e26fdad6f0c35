"""A part of the tables alone: it never takes the place of all, and nobody takes it for a state of the archive."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from event_archive.errors import UsageError
from event_archive.recompute.as_of import pin_as_of
from event_archive.recompute.checks import run_checks
from event_archive.recompute.dbt import BuildFailed
from event_archive.recompute.determinism import ModelGuesses
from event_archive.recompute.project import ProjectUnreadable
from event_archive.recompute.request import Request
from event_archive.recompute.run import Ending
from event_archive.warehouse import layout, read_published
from tests.recompute.place import REBUILD, dbt_in_this_process, orders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.project import Project
    from event_archive.warehouse import Build
    from tests.recompute.place import Place

SOME = Request(select=("orders",))


def test_a_part_does_not_take_the_place_of_tables_that_can_not_be_gone_on_from(shop: Place) -> None:
    """The record of the live build is damaged; the other tables must not vanish for that."""
    record = layout.record_file(shop.warehouse, shop.live)
    record.chmod(0o644)
    record.write_text("{}")
    before = shop.contents()
    for request in (SOME, Request(is_rebuild=True, select=("orders",))):
        with pytest.raises(UsageError, match="can't be gone on from"):
            shop.recompute(request)
    assert shop.contents() == before
    assert shop.recompute(REBUILD).ending is Ending.PUBLISHED


def test_a_part_does_not_drop_what_is_to_become_something_else(shop: Place) -> None:
    """A view that is to be a table, and isn't among what was asked for."""
    shop.edit("models/marts/best_customers.sql", "materialized='view'", "materialized='table'")
    before = shop.contents()
    with pytest.raises(UsageError, match=r"best_customers is to be something else .*event-archive refresh"):
        shop.recompute(Request(is_rebuild=True, select=("sales_daily",)))
    assert shop.contents() == before
    shop.recompute()
    assert shop.contents() == before


@pytest.mark.parametrize("request_", [Request(select=("typo",)), Request(is_rebuild=True, select=("typo",))])
def test_a_selection_of_nothing_is_no_build(shop: Place, request_: Request) -> None:
    """It is a slip, and says what there is."""
    live = shop.live
    shop.archive("orders", orders(20, 21))
    with pytest.raises(UsageError, match=r"No model is selected by typo; there are: .*orders"):
        shop.recompute(request_)
    assert shop.live == live


def test_tables_of_different_states_are_no_state_to_come_back_to(shop: Place) -> None:
    """Until a refresh of all has brought them together."""
    shop.archive("orders", orders(20, 25))
    shop.recompute(SOME)
    record = read_published(shop.warehouse)
    assert record is not None
    assert record.is_partial
    with pytest.raises(UsageError, match="different states of the archive; name a time"):
        shop.recompute(Request(is_rebuild=True, as_of=shop.live))
    with pytest.raises(UsageError, match="different states of the archive; name a time"):
        pin_as_of(shop.config(), str(layout.record_file(shop.warehouse, shop.live)))
    # Each table can be checked all the same.
    config = shop.config()
    ran = run_checks(config, ["no_sale_is_negative"], fill=partial(dbt_in_this_process, config))
    assert ran.checks == (1, 1)
    shop.recompute()
    assert shop.contents() == shop.rebuilt()
    whole = read_published(shop.warehouse)
    assert whole is not None
    assert not whole.is_partial


@pytest.mark.parametrize("selected", ["orders", "orders+", "sales_daily", "+customers"])
def test_a_part_can_be_computed_into_a_file_of_its_own(shop: Place, tmp_path: Path, selected: str) -> None:
    """With what it is made of, and what its readers are made of; checks that need more aren't asked."""
    file = tmp_path / "part.duckdb"
    shop.recompute(Request(is_rebuild=True, select=(selected,), into=file))
    part, whole = shop.contents(file), shop.contents()
    assert f"main.{selected.strip('+')}" in part
    assert part == {name: rows for name, rows in whole.items() if name in part}


@pytest.mark.parametrize("is_before_dbt", [True, False])
def test_models_that_are_edited_meanwhile_are_never_taken_for_what_was_computed(
    shop: Place, *, is_before_dbt: bool
) -> None:
    """Neither if dbt reads them edited, after the plan was made, nor if it has read them already."""
    shop.archive("orders", orders(20, 22))
    before, config = shop.contents(), shop.config()

    def edited(project: Project, build: Build, arguments: Sequence[str]) -> DbtRun:
        def edit() -> None:
            shop.edit("macros/in_cents.sql", "* 100", "* 1000")

        if is_before_dbt:
            edit()
        ran = dbt_in_this_process(config, project, build, arguments)
        if not is_before_dbt:
            edit()
        return ran

    if is_before_dbt:
        with pytest.raises(BuildFailed, match="was changed while dbt started"):
            shop.recompute(fill=edited)
        assert shop.contents() == before
    else:
        shop.recompute(fill=edited)
        assert ("order 5", 500) in shop.rows("select order_id, amount_cents from orders")
    shop.recompute()
    assert ("order 5", 5000) in shop.rows("select order_id, amount_cents from orders")
    assert shop.contents() == shop.rebuilt()


def test_a_rebuild_is_the_way_out_of_a_damaged_file(shop: Place) -> None:
    """What differs can't be told then; that is said, and with `ask` left to a person."""
    before = shop.contents()
    for policy, ending in (("ask", Ending.WAITING), ("always", Ending.PUBLISHED)):
        shop.configure(f"publish: {policy}")
        live = shop.published
        live.chmod(0o644)
        with live.open("r+b") as file:
            size = live.stat().st_size
            for place in range(12288, size, 4096):
                file.seek(place)
                file.write(b"\xff" * 64)
        done = shop.recompute(REBUILD)
        assert done.ending is ending
        assert "could not be told" in done.reason
    assert shop.contents() == before


def test_a_build_that_was_cut_off_before_its_record_stops_nobody(shop: Place) -> None:
    """It is cleared away by whoever builds next."""
    shop.configure("publish: ask")
    left = layout.build_file(shop.warehouse, layout.new_build_id(after=shop.live))
    left.write_bytes(b"half")
    shop.edit("macros/in_cents.sql", "* 100", "* 1000")
    assert shop.recompute().ending is Ending.WAITING
    assert not left.exists()


ALIASED = """
{{ config(materialized='incremental', unique_key='order_id', meta={'level': 'entity'}, alias='sold') }}
select order_id, count(*) as events from {{ history('stg_orders') }} group by order_id
"""
READER = """
{{ config(materialized='incremental', unique_key='order_id', meta={'level': 'entity'}) }}
select order_id, events * 2 as twice from {{ history('sales') }}
"""


def add(place: Place, name: str, sql: str, columns: str) -> None:
    """Adds a mart."""
    (place.project / "models" / "marts" / f"{name}.sql").write_text(sql)
    (place.project / "models" / "marts" / f"{name}.yml").write_text(
        f"models:\n  - name: {name}\n    columns:\n"
        + "".join(
            f"      - {{name: {part.split()[0]}, data_type: {part.split()[1]}}}\n"
            for part in columns.split(", ")
        )
    )


def test_a_table_may_have_another_name_than_its_model(shop: Place) -> None:
    """Its log of changes too, for those who read it."""
    add(shop, "sales", ALIASED, "order_id varchar, events bigint")
    add(shop, "twice", READER, "order_id varchar, twice bigint")
    shop.recompute()
    shop.archive("orders", [{**orders(3, 4)[0], "event_id": "again", "ordered_on": "2024-02-01"}])
    shop.recompute()
    assert ("order 3", 4) in shop.rows("from twice")
    assert shop.contents() == shop.rebuilt()


def test_what_is_new_in_a_view_with_a_window_is_not_known(shop: Place) -> None:
    """A late event makes another order the first of its customer, and no commit tells of the one that was."""
    (shop.project / "models" / "staging" / "first_orders.sql").write_text(
        "{{ config(materialized='view') }} select * from {{ ref('stg_orders') }} "
        "qualify row_number() over (partition by customer order by ordered_on, event_id) = 1"
    )
    add(
        shop,
        "firsts",
        READER.replace("history('sales')", "history('first_orders')").replace("events * 2", "amount"),
        "order_id varchar, twice bigint",
    )
    before = shop.contents()
    with pytest.raises(ModelGuesses, match="firsts reads the view first_orders"):
        shop.recompute()
    assert shop.contents() == before


def test_two_models_can_not_make_one_table(shop: Place) -> None:
    """The second would never be computed."""
    add(shop, "totals_too", "{{ config(alias='totals') }} select 1 as one", "one integer")
    with pytest.raises(Exception, match=r"totals"):
        shop.recompute()


def test_a_model_can_not_take_the_place_of_a_builds_record(shop: Place) -> None:
    """The record would be written over its rows."""
    add(shop, "build_info", "select 1 as one", "one integer")
    with pytest.raises(ProjectUnreadable, match=r"build_info is part of each build's own record"):
        shop.recompute()


def test_an_ephemeral_model_is_a_part_of_those_who_read_it(shop: Place) -> None:
    """Nothing of it is ever missing or behind."""
    (shop.project / "models" / "staging" / "big.sql").write_text(
        "{{ config(materialized='ephemeral') }} select * from {{ ref('customers') }} where orders >= 2"
    )
    shop.edit("models/marts/best_customers.sql", "ref('customers') }} where orders >= 2", "ref('big') }}")
    shop.recompute()
    assert shop.recompute().ending is Ending.NOTHING_NEW
    shop.archive("orders", orders(20, 30))
    shop.recompute()
    assert shop.contents() == shop.rebuilt()


@pytest.mark.parametrize(
    "used", ["env_var('RATE', '100')", "modules.datetime.datetime.now().year", "run_started_at"]
)
def test_what_is_compiled_in_from_outside_is_refused(shop: Place, used: str) -> None:
    """No hash of the code would tell that it is another query now."""
    shop.edit("macros/in_cents.sql", "* 100", "* 100 + 0 * length('{{ " + used.replace("'", '"') + " }}')")
    with pytest.raises(Exception, match=r"uses (env_var|modules.datetime|run_started_at)"):
        shop.recompute()
