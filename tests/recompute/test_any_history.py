"""Incremental equals rebuild, for hundreds of histories: `make campaign` looks at thousands more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.recompute.histories import STREAMS, Refresh
from tests.recompute.property import check_histories
from tests.recompute.replay import ReplayedWarehouse

if TYPE_CHECKING:
    from tests.recompute.statements import Statements

# What the models of one stream do doesn't touch those of the other: alone, a history takes half the time.
MODELS_OF = {
    "bookings": ("stg_flight_booking__bookings_decoded+", "int_flight_booking__airport_time_zones"),
    "cart_events": ("stg_shopping_cart__cart_events_decoded+",),
}


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_refreshed_in_any_way_gives_what_a_rebuild_gives(
    stream: str, number: int, statements: Statements
) -> None:
    """Whatever is archived and refreshed, killed, selected or thrown away: row for row, in every relation."""
    models = statements.selected(MODELS_OF[stream])
    warehouse = ReplayedWarehouse(statements.only(models), streams=[stream])
    check_histories(warehouse, examples=20, number=number, streams=[stream])


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        pytest.param("bookings", Refresh(("+bookings",), in_full=True), id="in_full-bookings"),
        pytest.param("cart_events", Refresh(("+carts",), in_full=True), id="in_full-carts"),
        pytest.param(
            "cart_events", Refresh(("+int_shopping_cart__ordered_items",)), id="one_of_the_readers_of_carts"
        ),
    ],
)
def test_what_a_run_of_some_models_has_left_out_is_made_up_for(
    stream: str, last: Refresh, statements: Statements
) -> None:
    """Nobody notes what a model changes that is computed in full; what one reader has taken in, another still needs."""
    warehouse = ReplayedWarehouse(statements.only(statements.selected(MODELS_OF[stream])), streams=[stream])
    check_histories(warehouse, examples=8, number=0, streams=[stream], ending=(last,))


@pytest.mark.parametrize("number", range(4))
def test_two_streams_in_any_order_give_what_a_rebuild_gives(number: int, statements: Statements) -> None:
    """Their commits come in any order, refreshes see more of the one than of the other; digests that are kept up are those of a rebuild."""
    warehouse = ReplayedWarehouse(statements, keeps_digests=True)
    check_histories(warehouse, examples=5, number=number)
    assert "carts" in warehouse.digests
