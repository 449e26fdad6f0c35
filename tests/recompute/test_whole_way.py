"""Made-up histories through everything there is: ingest, plan, the real dbt, checks, publishing; after each of them the tables are a rebuild's.

What doesn't live here: the hundreds of histories that are played in memory (`test_any_history`).
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.compaction.days import compact_stream
from event_archive.recompute.dbt import BuildFailed
from event_archive.recompute.request import Request
from tests.recompute.place import STREAMS, dbt_in_this_process, orders, visits
from tests.recompute.test_refresh import FAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.project import Project
    from event_archive.warehouse import Build
    from tests.recompute.place import Place

STEPS = 7
SELECTIONS = [
    ("stg_orders_decoded",),
    ("orders",),
    ("stg_visits", "customers"),
    ("+customers",),
    ("orders+",),
    ("totals", "sales_daily"),
]
EDITS = [
    ("macros/in_cents.sql", "* 100", "* 1000"),
    ("macros/in_cents.sql", "* 1000", "* 100"),
    ("models/marts/best_customers.sql", "orders >= 2", "orders >= 3"),
    ("models/marts/orders.sql", "order by ordered_on, event_id", "order by ordered_on desc, event_id"),
    ("models/marts/customers.sql", "count(*) as visits", "count(distinct event_id) as visits"),
]


def told_of(chance: random.Random) -> list[dict[str, Any] | bytes]:
    """Orders that are new, told of again, delivered twice, late, or broken."""
    first = chance.randrange(15, 40)
    events: list[dict[str, Any] | bytes] = []
    for event in orders(first, first + chance.randrange(1, 6)):
        again = {
            **event,
            "event_id": f"{event['event_id']}.{chance.randrange(3)}",
            "ordered_on": f"2024-01-{chance.randrange(1, 9):02}",
            "customer": f"customer {chance.randrange(5)}",
        }
        events += chance.choice([[event], [again], [event, event], [again, event], [b'{"event_id": "o'], []])
    chance.shuffle(events)
    return events


class Stopped(Exception):
    """The run was ended from outside."""


def one_step(place: Place, chance: random.Random) -> str:
    """Lets something happen to the shop; gives what it was."""
    what = chance.choice(["orders", "orders", "visits", "refresh", "some", "some", "compact", "edit", "stop"])
    if what == "orders":
        place.archive("orders", told_of(chance))
    elif what == "visits":
        first = chance.randrange(18, 40)
        place.archive("visits", visits(first, first + chance.randrange(1, 5)))
    elif what == "refresh":
        place.recompute()
    elif what == "some":
        place.recompute(Request(select=chance.choice(SELECTIONS)))
    elif what == "compact":
        for stream in STREAMS:
            compact_stream(place.config(), stream, until=FAR)
    elif what == "edit":
        file, old, new = chance.choice(EDITS)
        if old in (place.project / file).read_text():
            place.edit(file, old, new)
    else:
        _stopped(place, chance)
    return what


def _stopped(place: Place, chance: random.Random) -> None:
    """A refresh that ends after some of its models."""
    models = chance.sample(["stg_orders_decoded", "orders", "stg_visits", "customers", "sales_daily"], 2)

    def some_then_stop(project: Project, build: Build, arguments: Sequence[str]) -> DbtRun:
        dbt_in_this_process(place.config(), project, build, ["build", "--select", *models])
        raise Stopped

    with contextlib.suppress(Stopped):
        place.recompute(fill=some_then_stop)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_has_happened_a_refresh_ends_with_what_a_rebuild_gives(seed: int, shop: Place) -> None:
    """Row for row; and the digests that were kept up are those of the rows."""
    chance = random.Random(seed)
    happened = []
    for _ in range(STEPS):
        try:
            happened.append(one_step(shop, chance))
        except BuildFailed as error:
            pytest.fail(f"{happened}: {error}")
    shop.recompute()
    assert shop.contents() == shop.rebuilt(), happened
    kept = shop.digests()
    shop.recompute(Request(is_rebuild=True))
    assert shop.digests() == kept, happened
