"""Models that somebody adds: right ones stand any history, wrong ones are found out.

What doesn't live here: the models (`models/right`, `models/wrong`; each says in its first line what is special about it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.recompute.conftest import OWN_MODELS
from tests.recompute.histories import STREAMS
from tests.recompute.property import check_histories, counterexample
from tests.recompute.replay import ReplayedWarehouse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.recompute.statements import Statements

RIGHT = sorted(file.stem for file in (OWN_MODELS / "right").glob("*.sql"))
WRONG = sorted(file.stem for file in (OWN_MODELS / "wrong").glob("*.sql"))
OF_BOOKINGS = ("events_by_kind", "flights_of_passengers", "refusals_of_flights")


def warehouse_of(statements: Statements, names: Iterable[str]) -> ReplayedWarehouse:
    """Some models, and what they are made of."""
    models = statements.selected(f"+{name}" for name in names)
    read = {
        "bookings": "stg_flight_booking__bookings_decoded",
        "cart_events": "stg_shopping_cart__cart_events_decoded",
    }
    streams = [stream for stream in STREAMS if read[stream] in models]
    return ReplayedWarehouse(statements.only(models), streams=streams)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize(
    "names",
    [OF_BOOKINGS, tuple(name for name in RIGHT if name not in OF_BOOKINGS)],
    ids=["of_one_stream", "of_two_streams"],
)
def test_a_model_that_keeps_to_the_rules_gives_what_a_rebuild_gives(
    names: tuple[str, ...], number: int, statements_of_own_models: Statements
) -> None:
    """Null keys, keys of two columns, days, models over models by other keys, two levels of input, two streams."""
    warehouse = warehouse_of(statements_of_own_models, names)
    check_histories(warehouse, examples=10, number=number, streams=warehouse.streams)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_is_found_out(name: str, statements_of_own_models: Statements) -> None:
    """There is a history after which it differs from its rebuild; most are found within 30, a rare one took 280."""
    warehouse = warehouse_of(statements_of_own_models, [name])
    found = counterexample(warehouse, examples=2000, relation=f"main.{name}", streams=warehouse.streams)
    assert found is not None
    assert f"main.{name}: incremental has" in str(found)
