"""When a recompute is published, and what becomes of it otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from event_archive.recompute.run import Ending
from event_archive.warehouse import layout, list_builds
from tests.recompute.place import REBUILD, orders, visits
from tests.recompute.test_refresh import no_dbt

if TYPE_CHECKING:
    from event_archive.warehouse import BuildDiff
    from tests.recompute.place import Place


def change_the_rules(place: Place) -> None:
    """Makes each order worth ten times as much."""
    place.edit("macros/in_cents.sql", "* 100", "* 1000")


def test_what_changes_history_is_shown_before_it_is_published(shop: Place) -> None:
    """`ask` with a person: the difference of each mart, at the same state of the archive; published when it is confirmed."""
    shop.configure("publish: ask")
    shop.archive("orders", orders(20, 25))  # has nothing to do with it
    change_the_rules(shop)
    before = shop.live
    shown: list[BuildDiff] = []

    def confirm(difference: BuildDiff) -> bool:
        shown.append(difference)
        assert shop.live == before
        return len(shown) == 2

    refused = shop.recompute(REBUILD, confirm=confirm)
    assert (refused.ending, shop.live) == (Ending.WAITING, before)
    assert {mart.mart for mart in shown[0].marts if not mart.is_equal} == {"orders", "sales_daily"}
    rows = {mart.mart: mart.rows for mart in shown[0].marts}["orders"]
    assert rows is not None
    assert (rows.added, rows.removed, rows.changed, rows.changed_columns) == (0, 0, 19, {"amount_cents": 19})
    confirmed = shop.recompute(REBUILD, confirm=confirm)
    assert confirmed.ending is Ending.PUBLISHED
    assert confirmed.record is not None
    assert shop.live == confirmed.record.build_id
    assert shop.recompute().new_since_published == {"orders": 5}
    assert shop.contents() == shop.rebuilt()


def test_what_adds_only_what_is_new_is_published_whatever_the_policy(shop: Place) -> None:
    """`ask` with nobody there, and `if_equal`; so is a rebuild that comes to the same."""
    for policy in ("ask", "if_equal"):
        shop.configure(f"publish: {policy}")
        shop.archive("orders", orders(20, 25) if policy == "ask" else orders(25, 30))
        assert shop.recompute().ending is Ending.PUBLISHED
        same = shop.recompute(REBUILD)
        assert (same.ending, same.difference is not None) == (Ending.PUBLISHED, True)


def test_a_build_that_waits_is_not_made_again(shop: Place) -> None:
    """A schedule after a change of code: one build, until somebody publishes it; what is new waits for that."""
    shop.configure("publish: ask")
    change_the_rules(shop)
    waits = shop.recompute().record
    assert waits is not None
    again = shop.recompute(fill=no_dbt)
    assert again.ending is Ending.NOTHING_NEW
    assert f"event-archive publish {waits.build_id}" in again.reason
    shop.archive("orders", orders(20, 25))
    assert f"event-archive publish {waits.build_id}" in shop.recompute(fill=no_dbt).reason
    shop.run("publish", waits.build_id)
    newer = shop.recompute()
    assert (newer.ending, newer.new_since_published) == (Ending.PUBLISHED, {"orders": 5})
    assert shop.contents() == shop.rebuilt()


@pytest.mark.parametrize("policy", ["if_equal", "ask"])
def test_code_that_changes_no_row_holds_nothing_up(policy: str, shop: Place) -> None:
    """It is compared at the state of the tables that are published; then comes what is new."""
    shop.configure(f"publish: {policy}")
    shop.edit("models/marts/orders.sql", "select", "-- as they were told of last\nselect")
    shop.archive("visits", visits(20, 25))
    told: list[BuildDiff] = []
    done = shop.recompute(on_difference=told.append)
    assert (done.ending, done.new_since_published) == (Ending.PUBLISHED, {"visits": 5})
    assert done.dbt is not None
    # Of both builds.
    assert {"orders", "stg_visits"} <= {unique_id.rpartition(".")[2] for unique_id in done.dbt.built}
    assert [difference.is_equal for difference in told] == [True]
    assert shop.contents() == shop.rebuilt()
    assert [build.state.value for build in list_builds(shop.warehouse)] == ["live", "kept", "kept"]


def test_what_a_build_changes_is_told_before_readers_see_it(shop: Place) -> None:
    """Also where it is published in any case."""
    before = shop.live
    change_the_rules(shop)
    live_when_told: list[str] = []
    done = shop.recompute(on_difference=lambda _: live_when_told.append(shop.live))
    assert done.ending is Ending.PUBLISHED
    assert live_when_told == [before]
    assert shop.live != before


def test_commands_tell_of_a_build_that_waits_and_of_how_it_is_published(shop: Place) -> None:
    """`if_equal`: the difference is printed; `publish` publishes it, `rollback` goes back, the next refresh goes on from there."""
    shop.configure("publish: if_equal")
    before = shop.live
    change_the_rules(shop)
    document = json.loads(shop.run("rebuild", "--json"))
    waiting = document["build_id"]
    assert (document["ending"], document["record"]["build_id"]) == ("waiting", waiting)
    assert document["reason"] == (
        f"Build {waiting} waits: it would change orders, sales_daily, and the configuration says `publish: if_equal`. "
        f"`event-archive publish {waiting}` publishes it."
    )
    (sales,) = (mart for mart in document["difference"]["marts"] if mart["mart"] == "sales_daily")
    assert sales["rows"]["changed"] == 4
    assert document["checks"] == {"passed": 4, "run": 4}
    assert shop.live == before
    assert shop.run("publish", waiting).startswith(f"Live is now build {waiting}, a rebuild of")
    assert shop.recompute(fill=no_dbt).ending is Ending.NOTHING_NEW
    assert f"Live is now build {before}" in shop.run("rollback")
    # The rows are of the old rules again, and that is noticed.
    shop.archive("visits", visits(20, 25))
    done = shop.recompute(fill=no_dbt)
    assert (done.plan.stale["orders"], done.ending) == ("its code has changed", Ending.NOTHING_NEW)
    assert f"build {waiting} waits" in done.reason
    shop.configure("publish: always")
    shop.recompute()
    assert shop.contents() == shop.rebuilt()


def test_going_back_and_refreshing_again_comes_to_what_a_rebuild_gives(shop: Place) -> None:
    """Twice: what the older build hadn't is new again, and nothing is counted twice."""
    for first in (20, 25):
        shop.archive("orders", orders(first - 3, first + 5))
        shop.archive("visits", visits(first, first + 5))
        shop.recompute()
    shop.run("rollback")
    shop.run("rollback")
    assert shop.rows("select count(*) from orders") == [(20,)]
    done = shop.recompute()
    assert done.new_since_published == {"orders": 16, "visits": 10}
    assert shop.contents() == shop.rebuilt()
    assert shop.digests() == {mart.mart: mart.digest for mart in shop.recompute(REBUILD).record.marts}  # type: ignore[union-attr]


def test_a_run_may_be_published_otherwise_than_the_configuration_says(shop: Place) -> None:
    """`--publish` says it for that run; what is computed in full, and what that has changed, is printed."""
    change_the_rules(shop)
    said = shop.run("refresh", "--publish", "ask")
    assert "there is nobody to ask" in said
    assert "orders: computed in full, since its code has changed." in said
    assert "  19 rows changed: amount_cents in 19" in said


def test_as_many_builds_are_kept_as_the_configuration_says(shop: Place) -> None:
    """The published one, the one before it, and the newest that waits; of all others the record."""
    shop.configure("keep_builds: 2", "publish: ask")
    first = shop.live
    for number in range(20, 23):
        shop.archive("orders", orders(number, number + 1))
        shop.recompute()
    change_the_rules(shop)
    for _ in range(2):
        assert shop.recompute(REBUILD).ending is Ending.WAITING
    states = [build.state.value for build in list_builds(shop.warehouse)]
    assert states == ["waiting", "removed", "live", "kept", "removed", "removed"]
    document = json.loads(shop.run("builds", "--json"))
    assert [build["state"] for build in document["builds"]] == states
    assert len(layout.build_ids_with_file(shop.warehouse)) == 3
    assert f"rebuild --as-of {first} --into FILE" in shop.run("rollback", first, expect=2)
