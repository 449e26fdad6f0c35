"""What is played in memory is what dbt does: its statements do not depend on the data, and both ways make the same tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.recompute.histories import STREAMS
from tests.recompute.property import some_histories
from tests.recompute.real_dbt import ParquetArchive
from tests.recompute.replay import ReplayedWarehouse, differences
from tests.recompute.statements import noted, sent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.recompute.real_dbt import Dbt
    from tests.recompute.statements import Statements

HISTORIES = 5


class FullArchive(ParquetArchive):
    """An archive in which each commit that is asked for holds more than that."""

    def commit_values(self, stream: str, values: list[bytes | None]) -> None:  # type: ignore[override]
        """Archives events that are accepted, rejected, and there twice."""
        number = self.positions.commits[stream]
        models = ["carts"]
        for history in some_histories(models, count=8, number=number):
            for step in history:
                if getattr(step, "stream", None) == stream and hasattr(step, "events"):
                    self.commit(stream, step.events)
        super().commit_values(stream, values)


def test_payloads_are_decoded_by_one_model_of_each_stream(statements: Statements) -> None:
    """So once per event and run: whoever else reads the stream reads the table that this one makes."""
    decoding = [
        model.name
        for model in statements.models
        if any("json" in text.lower() or "payload" in text for text in (*model.in_full, *model.incremental))
    ]
    assert sorted(decoding) == [
        "stg_flight_booking__bookings_decoded",
        "stg_shopping_cart__cart_events_decoded",
    ]
    reading = [
        model.name
        for model in statements.models
        if any(
            re.search(r"from\s+\S*event_archive\S*\.(bookings|cart_events)", text)
            for text in (*model.in_full, *model.incremental)
        )
    ]
    assert sorted(reading) == sorted(decoding)


def test_what_dbt_sends_does_not_depend_on_what_is_in_the_archive(
    dbt: Dbt, statements: Statements, tmp_path: Path
) -> None:
    """Over a full archive it is, to the letter, what it is over one of three events."""
    archive = FullArchive(tmp_path / "archive")
    elsewhere = dbt.on(tmp_path / "dbt")
    assert noted(elsewhere, archive) == statements
    with elsewhere.connect() as connection:
        for mart in ("bookings", "seat_availability", "carts", "product_demand_daily"):
            assert connection.execute(f"select count(*) > 1 from main.{mart}").fetchone() == (True,)


def test_what_is_computed_in_full_for_a_reason_is_computed_as_if_somebody_had_asked_for_it(
    dbt: Dbt, statements: Statements, tmp_path: Path
) -> None:
    """A model whose code has changed, and one of which an input was computed in full: as with --full-refresh."""
    archive = ParquetArchive(tmp_path / "archive")
    elsewhere = dbt.on(tmp_path / "dbt")
    for stream in STREAMS:
        archive.commit_values(stream, [b"{}"])
    assert elsewhere.run("run", snapshot=archive.snapshot()) == []
    with elsewhere.connect() as connection:
        connection.execute(
            "insert into meta.stale values ('stg_flight_booking__bookings_decoded', 'its code has changed')"
        )
    found = sent(elsewhere, ["run"], archive)
    expected = {model.name: model for model in statements.models}
    in_full = statements.selected(["stg_flight_booking__bookings_decoded+"])
    assert len(found.of_models) == len(expected)
    for node_id, texts in found.of_models.items():
        model = expected[node_id.rpartition(".")[2]]
        assert tuple(texts) == (model.in_full if model.name in in_full else model.incremental)


@pytest.mark.parametrize("number", range(HISTORIES))
def test_the_real_dbt_makes_of_a_history_what_its_statements_make_of_it_in_memory(
    number: int, dbt: Dbt, statements: Statements, tmp_path: Path
) -> None:
    """Refreshed in the same steps by both, and rebuilt by the real one: the same rows in each relation."""
    models = [model.name for model in statements.models]
    history = some_histories(models, count=10, number=number)[0]
    warehouse = ReplayedWarehouse(statements)
    warehouse.play(history)
    warehouse.refresh()
    archive = ParquetArchive(tmp_path / "archive")
    refreshed = dbt.on(tmp_path / "refreshed", threads=2)
    refreshed.play(history, archive)
    assert refreshed.run("run", snapshot=archive.snapshot()) == []
    assert differences(refreshed.contents(), warehouse.contents()) == {}
    rebuilt = dbt.on(tmp_path / "rebuilt", threads=2)
    assert rebuilt.run("run", snapshot=archive.snapshot()) == []
    assert differences(refreshed.contents(), rebuilt.contents()) == {}
