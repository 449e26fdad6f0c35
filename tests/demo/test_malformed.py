"""Every way of breaking a line breaks it for a reader that keeps to the contract, and for DuckDB where no JSON is left."""

from __future__ import annotations

import json
import random

import duckdb
import pytest

from demo.malformed import KINDS, break_line
from tests.demo.naive_reader import Event, decode

COMMON: Event = {
    "event_id": "e1",
    "schema_version": 2,
    "occurred_at": "2013-03-01T05:00:00.5-05:00",
    "note": "ünder way",
}
BOOKING: Event = COMMON | {
    "event_type": "booking_confirmed",
    "sequence": 7,
    "booking_id": "B7",
    "flight_id": "UA1-EWR",
}
BOOKING |= {"passenger_id": "P1", "seat": "1A", "fare": {"amount_cents": 10_050, "currency": "USD"}}
REFUSAL: Event = COMMON | {
    "event_type": "command_refused",
    "sequence": 8,
    "command": "book",
    "reason": "seat_taken",
}
REFUSAL |= {"flight_id": "UA1-EWR", "booking_id": None, "seat": "1A"}
ITEM: Event = COMMON | {"event_type": "item_added", "schema_version": 1, "cart_version": 2, "cart_id": "K1"}
ITEM |= {"product_id": "SKU-1", "quantity": 2, "unit_price": 9.99}
NOT_JSON = ("not_utf_8", "cut", "noise", "two_in_one_line")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("stream", "event"), [("bookings", BOOKING), ("bookings", REFUSAL), ("cart_events", ITEM)]
)
def test_a_broken_line_is_refused_by_the_contract(kind: str, stream: str, event: Event) -> None:
    """Whatever variant of the kind comes up; the line as it was is fine."""
    line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    assert decode(line, stream) == event
    for seed in range(300):
        broken = break_line(kind, line, random.Random(seed))
        assert broken.strip()
        assert b"\n" not in broken
        assert decode(broken, stream) is None


@pytest.mark.parametrize("kind", NOT_JSON)
def test_what_is_no_json_is_none_for_duckdb_either(kind: str) -> None:
    """No variant depends on how lenient a parser is."""
    line = json.dumps(BOOKING, ensure_ascii=False, separators=(",", ":")).encode()
    broken = {break_line(kind, line, random.Random(seed)) for seed in range(300)}
    texts = []
    for value in broken:
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            continue
    if kind == "not_utf_8":
        assert texts == []
        return
    with duckdb.connect() as connection:
        answers = connection.execute(
            "select count(*) filter (json_valid(t)) from unnest($1) as x(t)", [texts]
        ).fetchone()
    assert answers == (0,)
