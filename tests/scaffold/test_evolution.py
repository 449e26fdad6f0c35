"""A stream's payloads change twice, v1 → v2 → v3: it is reported, mapped in staging by a few lines, and no event is lost or left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from event_archive.schema.scan import Asked
from event_archive.schema.stream import stream_schema
from tests.dbt_project.conftest import differences
from tests.scaffold.place import relations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scaffold.place import Place

FIRST, SECOND, THIRD = (range(1, 101), range(101, 201), range(201, 301))


def v1(number: int) -> dict[str, Any]:
    """As the service began."""
    return {
        "event_id": f"e{number}",
        "order_id": f"o{number % 10}",
        "price": number + 0.5,
        "quantity": number,
    }


def v2(number: int) -> dict[str, Any]:
    """The price has another name, and there is a coupon."""
    return {**v1(number), "price": None, "unit_price": number + 0.5, "coupon": "X"}


def v3(number: int) -> dict[str, Any]:
    """The old name is gone, and quantities are texts."""
    event = {**v2(number), "quantity": str(number)}
    del event["price"]
    return event


def replace_in(path: Path, *pairs: tuple[str, str]) -> None:
    """Edits a model as a person would: each text must be there."""
    text = path.read_text()
    for old, new in pairs:
        assert old in text, f"{old!r} is not in {path.name}"
        text = text.replace(old, new, 1)
    path.write_text(text)


def map_v2(place: Place) -> None:
    """The edits of docs/schema.md for a new field and a renamed one."""
    folder = place.project / "models/staging/orders"
    replace_in(
        folder / "stg_orders__orders_decoded.sql",
        (
            "{'name': 'price', 'type': 'amount', 'required_by': 'all'},",
            (
                "{'name': 'price', 'type': 'amount', 'optional_for': 'all'},\n"
                "    {'name': 'unit_price', 'type': 'amount', 'optional_for': 'all'},\n"
                "    {'name': 'coupon', 'type': 'string', 'optional_for': 'all'},"
            ),
        ),
        ("        price,\n", "        coalesce(unit_price, price) as price,\n        coupon,\n"),
    )
    replace_in(folder / "stg_orders__orders.sql", ("    price,\n", "    price,\n    coupon,\n"))


def map_v3(place: Place) -> None:
    """The edits of docs/schema.md for a field that has changed its type."""
    replace_in(
        place.project / "models/staging/orders/stg_orders__orders_decoded.sql",
        (
            "{'name': 'quantity', 'type': 'integer', 'required_by': 'all'},",
            "{'name': 'quantity', 'type': 'json', 'required_by': 'all'},",
        ),
        ("        quantity,\n", "        try_cast(trim(quantity, '\"') as bigint) as quantity,\n"),
    )


def test_a_stream_changes_twice_and_its_old_events_stay_readable(place: Place) -> None:
    """`schema` says what changed; unmapped events wait in _rejected; mapped, old and new are one column; in steps as at once."""
    place.configure("orders")
    place.archive("orders", "1.jsonl", map(v1, FIRST))
    assert place.run("scaffold", "stream", "orders").returncode == 0
    mart = place.run(
        "scaffold",
        "mart",
        "order_states",
        "--stream",
        "orders",
        "--key",
        "order_id",
        "--order-by",
        "commit_version",
    )
    assert mart.returncode == 0, mart.stderr
    stepwise = place.build("stepwise")
    price = "select sum(price), count(*) from staging.stg_orders__orders"
    assert stepwise.rows(price) == [(sum(FIRST) + 50, 100)]

    place.archive("orders", "2.jsonl", map(v2, SECOND))
    assert drift(place) == [
        "price changed its type from number to null after commit 1",
        "coupon appeared with commit 2; since then 100 % of the events that may have it do",
        "unit_price appeared with commit 2; since then 100 % of the events that may have it do",
    ]
    place.refresh(stepwise)
    reasons = "select reason, count(*) from staging.stg_orders__orders_rejected group by 1"
    assert stepwise.rows(reasons) == [("wrong_type:price", 100)]
    map_v2(place)
    rebuild(place, stepwise)
    assert stepwise.rows(reasons) == []
    assert stepwise.rows(price) == [(sum([*FIRST, *SECOND]) + 100, 200)]
    assert stepwise.rows(
        "select coupon, count(*) from staging.stg_orders__orders group by 1 order by 2, 1 nulls last"
    ) == [
        ("X", 100),
        (None, 100),
    ]

    place.archive("orders", "3.jsonl", map(v3, THIRD))
    assert "quantity changed its type from integer to string after commit 2" in drift(place)
    assert any(text.startswith("price vanished after commit 2") for text in drift(place))
    place.refresh(stepwise)
    assert stepwise.rows(reasons) == [("wrong_type:quantity", 100)]
    map_v3(place)
    rebuild(place, stepwise)
    assert stepwise.rows("select sum(quantity), count(*) from staging.stg_orders__orders") == [
        (sum([*FIRST, *SECOND, *THIRD]), 300)
    ]
    assert stepwise.rows(price) == [(sum([*FIRST, *SECOND, *THIRD]) + 150, 300)]
    place.archive("orders", "4.jsonl", [v1(301), v2(302), v3(303)])
    place.refresh(stepwise)
    at_once = place.build("at_once")
    assert differences(stepwise, at_once, relations(at_once)) == {}
    assert at_once.rows("select sum(events) from order_states") == [(303,)]


def drift(place: Place) -> list[str]:
    """What `schema` says of the stream's changes."""
    return list(stream_schema(place.config(), "orders", Asked()).drift)


def rebuild(place: Place, warehouse: Any) -> None:
    """After a change of the models: what is made of the stream is computed again."""
    arguments = ("build", "--full-refresh", "--select", "stg_orders__orders_decoded+")
    assert warehouse.dbt(*arguments, snapshot=place.snapshot()) == []
