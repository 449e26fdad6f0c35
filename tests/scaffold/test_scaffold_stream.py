"""A stream is scaffolded from its events, and what was written runs at once, in the real dbt."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from tests.dbt_project.conftest import differences
from tests.scaffold.place import Place, as_lines, relations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dbt_project.conftest import Demo


def order(number: int, **fields: Any) -> dict[str, Any]:
    """An event of a shop's orders."""
    return {
        "id": f"o-{number}",
        "type": "placed" if number % 3 else "cancelled",
        "at": f"2026-02-{1 + number % 28:02d}T10:00:00.5+01:00",
        "order": {"no": number, "ship-to": {"zip.code": f"{number:05d}"}},
        "total": number + 0.25,
        "weight": number / 7,
        "is_gift": number % 2 == 0,
        "due": "2026-03-01",
        "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}],
        "prices": {f"p{number}": 1, f"q{number}": 2},
        **({"reason": "late"} if number % 3 == 0 else {}),
        **fields,
    }


def broken(number: int) -> list[dict[str, Any] | bytes]:
    """Events that no model can accept."""
    return [
        b"nope",
        b"\xff",
        b"[1]",
        order(number, total="1.5"),
        order(number + 1, type="unheard_of"),
        order(number + 2, at="today"),
    ]


def test_what_is_scaffolded_from_archived_events_runs_at_once(place: Place) -> None:
    """It builds, and every test passes; in full, and step by step with the same result; every event is somewhere."""
    place.configure("orders")
    orders = [order(number) for number in range(1, 4001)]
    place.archive("orders", "1.jsonl", [*orders[:3000], *orders[:10], *broken(1)])
    done = place.run("scaffold", "stream", "orders", "--domain", "shop")
    assert done.returncode == 0, done.stderr
    assert "Redeliveries are told by id" in done.stdout
    assert "Types of events (type): placed, cancelled" in done.stdout
    stepwise = place.build("stepwise")
    place.archive("orders", "2.jsonl", [*orders[2990:], *broken(5)])
    place.refresh(stepwise)
    at_once = place.build("at_once")
    assert differences(stepwise, at_once, relations(at_once)) == {}
    counts = {
        name: at_once.rows(f"select count(*) from staging.stg_shop__orders{name}")[0][0]
        for name in ("", "_decoded", "_rejected", "_duplicates")
    }
    assert counts == {"": 4000, "_decoded": 4032, "_rejected": 12, "_duplicates": 20}
    reasons = at_once.rows(
        "select reason, count(*) from staging.stg_shop__orders_rejected group by 1 order by 1"
    )
    assert reasons == [
        ("bad_timestamp:at", 2),
        ("not_an_object", 2),
        ("not_json", 2),
        ("not_utf8", 2),
        ("unknown_event_type:unheard_of", 2),
        ("wrong_type:total", 2),
    ]


def test_columns_are_typed_and_hold_what_the_events_say(place: Place) -> None:
    """Nested fields are columns, lists and maps are JSON text, amounts are exact; each value of an event is checked."""
    place.configure("orders")
    place.archive("orders", "1.jsonl", [order(number) for number in range(1, 400)])
    assert place.run("scaffold", "stream", "orders").returncode == 0
    warehouse = place.build("warehouse")
    types = dict(
        warehouse.rows(
            "select column_name, data_type from information_schema.columns where table_name = 'stg_orders__orders'"
        )
    )
    assert {
        name: types[name] for name in types if name not in ("source_id", "source_partition", "source_offset")
    } == {
        "event_id": "VARCHAR",
        "event_type": "VARCHAR",
        "at_": "TIMESTAMP WITH TIME ZONE",
        "at__utc_offset": "VARCHAR",
        "order_no": "BIGINT",
        "order_ship_to_zip_code": "VARCHAR",
        "total": "DECIMAL(18,2)",
        "weight": "DECIMAL(38,9)",
        "is_gift": "BOOLEAN",
        "due": "DATE",
        "lines": "VARCHAR",
        "prices": "VARCHAR",
        "reason": "VARCHAR",
        "commit_version": "BIGINT",
        "ingested_at": "TIMESTAMP WITH TIME ZONE",
        "source_time": "TIMESTAMP WITH TIME ZONE",
    }
    [row] = warehouse.rows(
        "select event_id, event_type, cast(epoch_us(at_) as bigint), at__utc_offset, order_no, order_ship_to_zip_code, cast(total as varchar), "
        "cast(weight as varchar), is_gift, cast(due as varchar), lines, prices, reason from staging.stg_orders__orders where order_no = 6"
    )
    assert row == (
        "o-6",
        "cancelled",
        1770454800500000,
        "+01:00",
        6,
        "00006",
        "6.25",
        "0.857142857",
        True,
        "2026-03-01",
        '[{"sku":"a","n":1},{"sku":"b","n":2}]',
        '{"p6":1,"q6":2}',
        "late",
    )


def test_the_demos_streams_are_scaffolded_to_what_their_authors_wrote(place: Place, demo: Demo) -> None:
    """Without a word of documentation: the same events are accepted, rejected and duplicates as by the models written by hand."""
    place.configure("bookings", "cart_events")
    for stream in ("bookings", "cart_events"):
        place.archive(stream, "1.jsonl", demo.lines[stream])
        assert place.run("scaffold", "stream", stream).returncode == 0
    warehouse = place.build("warehouse")
    for stream in ("bookings", "cart_events"):
        truth = demo.counts(stream)
        accepted, rejected, duplicates = (
            warehouse.rows(f"select count(*) from staging.stg_{stream}__{stream}{name}")[0][0]
            for name in ("", "_rejected", "_duplicates")
        )
        assert accepted + rejected + duplicates == truth["lines"]
        # That a quantity is at least 1, or a version 1 or 2, no event says: all else that is malformed is found.
        assert 0 <= accepted - truth["true_events"] <= 0.1 * truth["malformed_lines"]


def test_a_sample_scaffolds_a_stream_that_is_not_configured_yet(place: Place) -> None:
    """Plain, .gz or .zst: the same models; the configuration stays as it is, and the lines to add are said. Then it runs."""
    lines = as_lines([order(number) for number in range(1, 200)])
    written = []
    samples = {"": lines, ".gz": gzip.compress(lines), ".zst": zstandard.ZstdCompressor().compress(lines)}
    for number, (ending, content) in enumerate(samples.items()):
        (place.folder / f"sample.jsonl{ending}").write_bytes(content)
        other = Place(place.folder / str(number))
        other.folder.mkdir()
        other.configure()
        before = other.config_file.read_bytes()
        done = other.run(
            *("scaffold", "stream", "orders", "--sample", str(place.folder / f"sample.jsonl{ending}")),
            "--no-write",
        )
        assert done.returncode == 0, done.stderr
        assert "  orders:\n" in done.stdout
        assert "under `streams:`" in done.stdout
        assert other.config_file.read_bytes() == before
        written.append(files_of(other.project / "models"))
    assert written[0] == written[1] == written[2]
    assert len(written[0]) == 9
    other.configure("orders")
    assert other.build("empty").rows("select count(*) from staging.stg_orders__orders") == [(0,)]
    other.archive("orders", "1.jsonl", [order(number) for number in range(1, 50)])
    assert other.build("filled").rows("select count(*) from staging.stg_orders__orders") == [(49,)]


def test_events_without_an_id_are_each_accepted(place: Place) -> None:
    """Their position in the archive is their id, and a second delivery is another event; the command says so."""
    place.configure("clicks")
    place.archive("clicks", "1.jsonl", [{"page": "a", "id": "session"}] * 30)
    done = place.run("scaffold", "stream", "clicks")
    assert "No field is the events' id" in done.stdout
    warehouse = place.build("warehouse")
    assert warehouse.rows("select count(*), count(distinct event_id) from staging.stg_clicks__clicks") == [
        (30, 30)
    ]


def test_the_id_can_be_named(place: Place) -> None:
    """A path within the payload, which no name gives away; one that isn't there is refused before anything is written."""
    place.configure("orders")
    place.archive("orders", "1.jsonl", [{"meta": {"nr": number % 20}, "v": 1} for number in range(30)])
    refused = place.run("scaffold", "stream", "orders", "--event-id", "meta.no")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert not place.project.exists()
    assert place.run("scaffold", "stream", "orders", "--event-id", "meta.nr").returncode == 0
    warehouse = place.build("warehouse")
    assert warehouse.rows("select count(*) from staging.stg_orders__orders") == [(20,)]
    assert warehouse.rows("select count(*) from staging.stg_orders__orders_duplicates") == [(10,)]


def test_odd_names_and_values_become_plain_columns(place: Place) -> None:
    """Reserved words, quotes, dots, other alphabets, Jinja: nothing of a payload is run, and the models build."""
    place.configure("odd")
    events = [
        {
            "id": f"{number}",
            "select": 1,
            "Order": "x",
            "o'neil": "it's",
            'say "hi"': "{{ 1 / 0 }}",
            "{% raise %}": "{# x #}",
            "a.b": {"c d": 1.5},
            "größe": 3,
            "温度": 4,
            "": 5,
            "event_id": "other",
            "source_id": "mine",
            "payload": "p",
            "back\\slash": "\\",
            "type": "it's",
            "value": None,
            "123": 1,
        }
        for number in range(100)
    ]
    place.archive("odd", "1.jsonl", events)
    done = place.run("scaffold", "stream", "odd", "--event-id", "id")
    assert done.returncode == 0, done.stderr
    assert "such a name can't be asked for" in done.stderr
    warehouse = place.build("warehouse")
    columns = [
        name
        for (name,) in warehouse.rows(
            "select column_name from information_schema.columns where table_name = 'stg_odd__odd' order by ordinal_position"
        )
    ]
    assert len(columns) == len(events[0]) - 1 + 6
    [row] = warehouse.rows("select * from staging.stg_odd__odd where event_id = '7'")
    assert {*row} >= {"7", 1, "x", "it's", "{{ 1 / 0 }}", "{# x #}", 3, 4, "other", "mine", "p", "\\"}


def test_nothing_is_ever_overwritten(place: Place) -> None:
    """A second time, another domain for the same stream, a model of the same name elsewhere: exit code 1, every file as before."""
    place.configure("orders", "other")
    place.archive("orders", "1.jsonl", [order(number) for number in range(1, 50)])
    place.archive("other", "1.jsonl", [{"a": 1}])
    assert place.run("scaffold", "stream", "orders").returncode == 0
    before = files_of(place.project)
    for arguments in (("orders",), ("orders", "--domain", "shop")):
        again = place.run("scaffold", "stream", *arguments)
        assert again.returncode == 1
        assert "stg_orders__orders" in again.stderr
    mine = place.project / "models" / "mine" / "stg_other__other_rejected.sql"
    mine.parent.mkdir()
    mine.write_text("select 1 as x")
    taken = place.run("scaffold", "stream", "other")
    assert taken.returncode == 1
    assert str(mine) in taken.stderr
    mine.unlink()
    mine.parent.rmdir()
    assert files_of(place.project) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("Orders",),
        ("../orders",),
        ("orders; drop",),
        ("unknown",),
        ("empty",),
        ("lists",),
        ("blanks",),
        ("empty", "--domain", "a/b"),
        ("empty", "--sample", "missing.jsonl"),
        ("empty", "--sample", "blank.jsonl"),
        ("empty", "--sample", "cut.jsonl.gz"),
        ("lists", "--event-id", "a[]"),
    ],
)
def test_what_cannot_be_scaffolded_is_refused_before_anything_is_written(
    place: Place, arguments: tuple[str, ...]
) -> None:
    """Names that are none, streams without events, payloads that are no objects or have no fields, samples that are none: exit code 2, one sentence."""
    place.configure("empty", "lists", "blanks")
    place.archive("lists", "1.jsonl", [b"[1]"] * 20)
    place.archive("blanks", "1.jsonl", [b"{}"] * 20)
    (place.folder / "blank.jsonl").write_bytes(b"\n\n")
    (place.folder / "cut.jsonl.gz").write_bytes(gzip.compress(random.Random(1).randbytes(1000))[:300])
    done = place.run("scaffold", "stream", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert not place.project.exists()


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"target", "logs", "__pycache__"} & set(path.parts)
    }


def test_what_is_written_tells_what_was_observed(place: Place) -> None:
    """Shares of types and of presence, and examples, stand beside what is to be filled in."""
    place.configure("orders")
    events = [
        {"event_id": f"{n}", "price": n / 4 if n % 50 else "free", **({"coupon": "X"} if n % 2 else {})}
        for n in range(500)
    ]
    place.archive("orders", "1.jsonl", events)
    assert place.run("scaffold", "stream", "orders").returncode == 0
    text = (place.project / "models/staging/orders/stg_orders__orders.yml").read_text()
    assert "TODO: what it means. Observed: in 100 % of events; number 98 %, string 2 %; for example" in text
    assert "TODO: what it means. Observed: in 50 % of events; string 100 %; for example X." in text
    decoded = (place.project / "models/staging/orders/stg_orders__orders_decoded.sql").read_text()
    assert "price     in 100 % of events; number 98 %, string 2 %" in decoded
    assert json.dumps("X") not in decoded
