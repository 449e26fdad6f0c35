"""An event that today's models can't accept is only put aside: a newer model gets it back from the archive, by a rebuild alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.dbt_project.conftest import Warehouse, copied_project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dbt_project.conftest import Demo, SmallArchive

# What someone would change on the day on which version 3 is announced: a fare is then a text, {"amount": "513.90", "currency": "USD"}.
VERSION_3 = {
    "schema_versions=[1, 2],": "schema_versions=[1, 2, 3],",
    "    {'name': 'command',": (
        "    {'name': 'fare_text', 'path': 'fare.amount', 'type': 'string', 'required_by': ['booking_confirmed'],"
        " 'schema_version': 3},\n    {'name': 'command',"
    ),
    "        end as fare_usd,": "            when 3 then cast(fare_text as decimal(18, 2))\n        end as fare_usd,",
}


def test_a_rejected_event_comes_back_by_a_rebuild_with_a_newer_model(
    demo: Demo, demo_archive: SmallArchive, demo_warehouse: Warehouse, tmp_path: Path
) -> None:
    """Bookings with a fare of schema version 3 are rejected today; once staging knows it they are in `bookings`, nothing ingested again."""
    undecodable = [line["event"] for line in demo.true("undecodable_today")]
    ids = {event["event_id"] for event in undecodable}
    assert ids
    reasons = demo_warehouse.rows(
        "select event_id, reason from staging.stg_flight_booking__bookings_rejected where reason like 'unknown_schema_version:3'"
    )
    assert set(reasons) == {(event_id, "unknown_schema_version:3") for event_id in ids}

    project = copied_project(tmp_path)
    staging = project / "models/staging/flight_booking/stg_flight_booking__bookings_decoded.sql"
    text = staging.read_text()
    for today, tomorrow in VERSION_3.items():
        assert text.count(today) == 1
        text = text.replace(today, tomorrow)
    staging.write_text(text)

    newer = Warehouse(tmp_path / "newer", project)
    newer.folder.mkdir()
    shutil.copy(demo_warehouse.file, newer.file)
    select = ("--select", "stg_flight_booking__bookings_decoded+", "--full-refresh")
    assert newer.dbt("run", *select, snapshot=demo_archive.snapshot()) == []
    fares = newer.rows(
        "select booking_id, passenger_id, seat, fare_usd::varchar from bookings order by booking_id"
    )
    true_fares = {
        (b["booking_id"], b["passenger_id"], b["seat"], f"{b['price_cents'] / 100:.2f}")
        for b in demo.true("bookings")
    } | {(e["booking_id"], e["passenger_id"], e["seat"], e["fare"]["amount"]) for e in undecodable}
    assert set(fares) == true_fares
    assert (
        len(fares) == len(true_fares) == demo_warehouse.rows("select count(*) from bookings")[0][0] + len(ids)
    )
    still_rejected = newer.rows("select event_id from staging.stg_flight_booking__bookings_rejected")
    assert not ids & {event_id for (event_id,) in still_rejected}


def test_a_rejected_event_keeps_its_exact_bytes(demo: Demo, demo_warehouse: Warehouse) -> None:
    """Whoever repairs a model sees what the service really sent."""
    rejected = demo_warehouse.rows("select value from staging.stg_flight_booking__bookings_rejected")
    lines = set(demo.lines["bookings"])
    assert rejected
    assert all(value in lines for (value,) in rejected)


def test_every_kind_of_malformed_line_is_rejected_with_a_reason_of_its_own(
    demo: Demo, demo_warehouse: Warehouse
) -> None:
    """The reasons are short and stable: a code, and after a colon the detail."""
    reasons = demo_warehouse.rows(
        "select split_part(reason, ':', 1) as code, count(*) from staging.stg_shopping_cart__cart_events_rejected group by all"
    )
    counts = dict(reasons)
    malformed: dict[str, int] = demo.counts("cart_events")["malformed"]  # type: ignore[assignment]
    assert set(counts) <= {
        "bad_timestamp",
        "missing_field",
        "not_an_object",
        "not_json",
        "not_utf8",
        "out_of_range",
        "unknown_event_type",
        "unknown_schema_version",
        "wrong_type",
    }
    assert counts["bad_timestamp"] == malformed["bad_timestamp"]
    assert counts["not_utf8"] == malformed["not_utf_8"]
    assert counts["unknown_event_type"] == malformed["unknown_event_type"]
    assert counts["unknown_schema_version"] == malformed["unknown_schema_version"]
    assert counts["not_an_object"] == malformed["array"] + malformed["scalar"]
