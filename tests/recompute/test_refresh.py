"""A refresh: what it does and doesn't do, what it sees of the archive, and what it writes down of itself."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from event_archive import __version__
from event_archive.archive.snapshot import read_snapshot
from event_archive.compaction.days import compact_stream
from event_archive.copying import copy_stream
from event_archive.recompute.dbt import BuildFailed
from event_archive.recompute.plan import read_base
from event_archive.recompute.request import Request
from event_archive.recompute.run import Ending
from event_archive.storage.opening import StorageOptions, open_store
from event_archive.warehouse import layout, read_build, read_record
from tests.recompute.place import REBUILD, STREAMS, dbt_in_this_process, new_place, orders, visits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from event_archive.recompute.dbt import DbtRun
    from tests.recompute.place import Place

FAR = dt.date(2999, 1, 1)


def no_dbt(*arguments: Any) -> DbtRun:
    """In the place of dbt where it must not be started."""
    raise AssertionError(arguments)


def add_one_each(place: Place) -> None:
    """Archives a new order and a new visit."""
    place.archive("orders", [{**orders(20, 21)[0], "customer": "customer 9"}])
    place.archive("visits", visits(20, 21))


def compact(place: Place) -> None:
    """Rewrites each stream of several files into one."""
    compacted = [compact_stream(place.config(), stream, until=FAR).compacted for stream in STREAMS]
    assert any(compacted)


def copy_away(place: Place) -> None:
    """Copies the archive, and goes on with the copy."""
    options = StorageOptions(read_only_files=False)
    for stream in STREAMS:
        copy_stream(
            open_store(str(place.folder / "archive" / stream), options),
            open_store(str(place.folder / "copy" / stream), options),
        )
    place.configure(archive="copy")


def test_a_refresh_after_nothing_new_ends_without_dbt(shop: Place) -> None:
    """Nothing is built, written or locked; a compaction or a copy of the archive is nothing new."""
    live = shop.live
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    add_one_each(shop)
    shop.recompute()
    compact(shop)
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    shop.archive("visits", visits(30, 31))
    assert shop.recompute().new_since_published == {"visits": 1}
    # The orders' watermark is that of before the compaction, which has brought no events.
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    copy_away(shop)
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    assert shop.live != live
    assert shop.contents() == shop.rebuilt()


def test_a_refresh_after_nothing_new_needs_no_dbt_on_this_machine(shop: Place) -> None:
    """As a command: it says so, and dbt, which would fail here, isn't asked."""
    (shop.project / "profiles.yml").rename(shop.folder / "profiles.yml")
    shop.edit("dbt_project.yml", "name:", "name :")  # so that dbt would have to parse
    said = shop.run("refresh", expect=1)
    assert "dbt can't parse the project" in said
    shop.edit("dbt_project.yml", "name :", "name:")
    (shop.folder / "profiles.yml").rename(shop.project / "profiles.yml")
    (shop.project / "target" / "partial_parse.msgpack").write_bytes(b"dbt would fail on this")
    assert shop.run("refresh") == "Nothing to do: the tables hold everything that the archive has.\n"


def test_files_of_commits_that_were_consumed_are_not_opened(shop: Place) -> None:
    """The history of what is affected comes from tables that were decoded then; a rebuild needs the files, and says so."""
    old = list((shop.folder / "archive" / "orders").glob("ingest_date=*/*.parquet"))
    assert old
    for file in old:
        file.chmod(0o644)
        file.write_bytes(b"")
    # The same orders, told of again: their whole history is reduced.
    shop.archive(
        "orders",
        [{**event, "event_id": f"{event['event_id']}.again", "amount": 7} for event in orders(0, 20)],
    )
    done = shop.recompute()
    assert done.new_since_published == {"orders": 20}
    assert shop.rows("select count(*), sum(amount_cents) from orders") == [(20, 20 * 700)]
    with pytest.raises(BuildFailed, match=r"too small to be a Parquet file.*event-archive verify"):
        shop.recompute(REBUILD)


def test_only_what_has_something_new_is_run(shop: Place) -> None:
    """New visits touch no orders; no model is computed in full, and the result is that of a rebuild."""
    shop.archive("visits", visits(20, 24))
    done = shop.recompute()
    assert done.dbt is not None
    names = {unique_id.rpartition(".")[2] for unique_id in done.dbt.built}
    assert names == {"stg_visits", "customers", "best_customers", "totals"}
    assert shop.rows(
        "select model from meta.models where materialized = 'incremental' and version > full_at order by 1"
    ) == [
        ("customers",),
        ("stg_visits",),
    ]
    assert done.new_since_published == {"visits": 4}
    assert done.difference is None
    assert shop.contents() == shop.rebuilt()


def test_a_build_sees_the_archive_as_it_was_when_it_started(shop: Place) -> None:
    """Events that are archived while it is planned, and while dbt runs, are for the next one."""
    shop.archive("orders", orders(20, 25))
    config = shop.config()

    def fill(*arguments: Any) -> DbtRun:
        shop.archive("orders", orders(30, 40))
        compact(shop)
        ran = dbt_in_this_process(config, *arguments)
        shop.archive("visits", visits(40, 50))
        return ran

    done = shop.recompute(fill=fill, on_plan=lambda _: shop.archive("visits", visits(20, 30)))
    assert done.record is not None
    assert {name: seen.events for name, seen in done.record.streams.items()} == {"orders": 25, "visits": 20}
    assert shop.rows("select count(*) from orders") == [(25,)]
    assert shop.rows("select orders, visits from totals") == [(25, 20)]
    again = shop.recompute()
    assert again.new_since_published == {"orders": 10, "visits": 20}
    assert shop.contents() == shop.rebuilt()


def test_a_build_says_what_it_is_made_of(shop: Place) -> None:
    """When, by what and from what: as tables in its file, and as a record beside it, the same."""
    shop.archive("orders", orders(20, 25))
    before = shop.live
    done = shop.recompute(built_by="a test, too")
    record = done.record
    assert record is not None
    assert done.file == shop.published
    assert done.dbt is not None
    assert record == read_record(shop.warehouse, shop.live) == read_build(shop.published)
    assert shop.rows(
        "select build_id, mode, built_by, project_version, dbt_invocation_id, based_on, as_of from build_info"
    ) == [(shop.live, "refresh", "a test, too", __version__, done.dbt.invocation_id, before, None)]
    assert shop.rows("select started_at < finished_at and finished_at <= now() from build_info") == [(True,)]
    seen = read_snapshot(shop.config().table("orders"))
    assert shop.rows("select version, events, chain_hash from build_streams where stream = 'orders'") == [
        (seen.version, 25, seen.chain_hash)
    ]
    marts = dict(shop.rows("select mart, rows from build_marts"))
    assert marts == {"orders": 25, "sales_daily": 4, "customers": 5, "best_customers": 3, "totals": 1}
    assert len({mart.code_hash for mart in record.marts}) == 5
    shop.recompute(Request(is_rebuild=True))
    assert {mart.mart: mart.digest for mart in record.marts} == shop.digests()
    assert shop.live != record.build_id


def test_models_may_be_refreshed_one_by_one(shop: Place) -> None:
    """What a run of some models leaves behind, the next run of all catches up with."""
    shop.archive("orders", orders(20, 30))
    shop.archive("visits", visits(20, 30))
    shop.recompute(Request(select=("orders",)))  # what it reads isn't there yet
    assert shop.rows("select count(*) from orders") == [(20,)]
    shop.recompute(Request(select=("+orders",)))
    assert shop.rows("select (select count(*) from orders), orders, visits from totals") == [(30, 20, 20)]
    shop.recompute(Request(select=("customers",)))
    shop.archive("orders", orders(5, 35))
    shop.recompute()
    assert shop.contents() == shop.rebuilt()
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW


def test_a_refresh_of_one_model_leaves_the_others_stale(shop: Place) -> None:
    """A change of code of a model and of one that it reads: the one is computed alone, the rest by the next refresh."""
    shop.edit("macros/in_cents.sql", "* 100", "* 1000")
    shop.recompute(Request(select=("sales_daily",)))  # of orders as they still are
    assert shop.rows("select sum(sales_cents) from sales_daily") == [(19000,)]
    done = shop.recompute()
    assert set(done.plan.stale) == {"orders", "sales_daily", "customers", "best_customers", "totals"}
    assert shop.contents() == shop.rebuilt()


def test_the_first_refresh_may_be_of_some_models(tmp_path: Path) -> None:
    """Then what they read is computed too; the others come with the next one."""
    place = new_place(tmp_path)
    place.archive("orders", orders(0, 20))
    place.archive("visits", visits(0, 20))
    place.recompute(Request(select=("sales_daily",)))
    assert set(place.digests()) == {"orders", "sales_daily"}
    place.recompute()
    assert place.contents() == place.rebuilt()


def test_single_tables_are_rebuilt(shop: Place) -> None:
    """Alone, with what they read, with what reads them; always equal to a rebuild of everything once a refresh has followed."""
    shop.archive("orders", orders(20, 25))
    for number, name in enumerate(("orders", "+customers", "orders+")):
        done = shop.recompute(Request(is_rebuild=True, select=(name,)))
        assert done.ending is Ending.PUBLISHED
        assert done.difference is not None
        assert done.dbt is not None
        names = {unique_id.rpartition(".")[2] for unique_id in done.dbt.built}
        assert (
            names
            == (
                {"orders"},
                {"stg_visits", "stg_orders_decoded", "stg_orders", "orders", "customers"},
                {"orders", "sales_daily", "customers", "best_customers", "totals"},
            )[number]
        )
    shop.recompute()
    assert shop.contents() == shop.rebuilt()


def test_a_table_that_was_tampered_with_is_found_and_mended_by_a_rebuild(shop: Place) -> None:
    """Digests are made anew, so that the difference from what was recorded is told by rows."""
    honest = shop.digests()
    shop.published.chmod(0o644)
    with duckdb.connect(str(shop.published)) as connection:
        connection.execute("update orders set amount_cents = 1 where order_id = 'order 3'")
    done = shop.recompute(Request(is_rebuild=True, select=("orders",)))
    assert shop.digests()["orders"] == honest["orders"]
    assert done.difference is not None
    assert {mart.mart for mart in done.difference.marts if not mart.is_equal} == {"orders"}


def test_a_published_file_without_notes_is_no_base(shop: Place) -> None:
    """Then everything is computed again, and compared with what was published."""
    assert read_base(shop.warehouse) is not None
    shop.published.chmod(0o644)
    with duckdb.connect(str(shop.published)) as connection:
        connection.execute("drop schema meta cascade")
    done = shop.recompute()
    assert done.plan.base is None
    assert done.difference is not None
    assert done.record is not None
    assert done.record.mode == "rebuild"


def test_an_archive_that_is_another_one_is_noticed(shop: Place) -> None:
    """A refresh refuses; a rebuild, whatever the policy, makes the tables of the archive that there is."""
    shop.configure("publish: ask", archive="other")
    shop.archive("orders", orders(50, 60))
    shop.archive("orders", orders(60, 61))
    live = shop.live
    said = shop.run("refresh", expect=1)
    assert "The archive of orders isn't the one that the tables were made from" in said
    assert "`event-archive rebuild` makes the tables from it" in said
    assert shop.live == live
    done = shop.recompute(Request(is_rebuild=True))
    assert done.ending is Ending.WAITING
    assert done.difference is not None
    assert not done.difference.is_equal
    assert layout.build_file(shop.warehouse, str(done.record and done.record.build_id)) == done.file


@pytest.mark.parametrize(
    "between", [compact, copy_away, add_one_each], ids=lambda function: function.__name__
)
def test_nothing_that_happens_to_the_archive_in_between_makes_a_difference(
    between: Callable[[Place], None], shop: Place
) -> None:
    """A compaction, or a copy that takes its place: the next refreshes end with what a rebuild gives."""
    shop.archive("orders", orders(10, 30))
    shop.recompute()
    between(shop)
    shop.archive("visits", visits(20, 30))
    shop.archive("orders", orders(25, 35))
    shop.recompute()
    assert shop.contents() == shop.rebuilt()
