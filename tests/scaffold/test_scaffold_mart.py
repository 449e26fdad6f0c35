"""A mart is scaffolded over a stream, runs at once, and is the same in steps as at once."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.recompute.determinism import guesses
from event_archive.warehouse.layout import build_file, current_link, new_build_id
from tests.dbt_project.conftest import differences
from tests.scaffold.place import relations

if TYPE_CHECKING:
    from tests.scaffold.place import Place


def cart_events(rng: random.Random, carts: int) -> list[dict[str, Any]]:
    """Events of carts, out of order and some twice, with clocks that don't follow the carts' own counters."""
    events = []
    for cart in range(carts):
        for version in range(1, rng.randrange(2, 8)):
            kind = "opened" if version == 1 else rng.choice(["added", "removed"])
            event: dict[str, Any] = {
                "event_id": f"{cart}-{version}",
                "event_type": kind,
                "occurred_at": f"2026-02-{rng.randrange(1, 29):02d}T{rng.randrange(24):02d}:00:00-03:00",
                "cart_id": f"c{cart}" if rng.random() < 0.9 else None,
                "cart_version": version,
            }
            if kind == "opened":
                event["customer"] = f"u{rng.randrange(50)}"
            else:
                event["amount"] = rng.randrange(1000) / 100
            events.append(event)
    events += rng.sample(events, len(events) // 10)
    rng.shuffle(events)
    return events


def marts(place: Place) -> None:
    """Scaffolds a stream and a mart of each level."""
    for arguments in (
        ("stream", "carts"),
        ("mart", "cart_states", "--stream", "carts", "--key", "cart_id"),
        (
            "mart",
            "cart_times",
            "--stream",
            "carts",
            "--key",
            "cart_id",
            "--key",
            "event_type",
            "--order-by",
            "occurred_at",
        ),
        ("mart", "cart_days", "--stream", "carts", "--key", "occurred_at", "--level", "day"),
        ("mart", "cart_log", "--stream", "carts", "--level", "event"),
    ):
        done = place.run("scaffold", *arguments)
        assert done.returncode == 0, done.stderr


def test_marts_of_every_level_run_at_once_and_in_steps_give_what_they_give_at_once(place: Place) -> None:
    """Late, doubled and disordered events in four commits; after each, dbt builds and tests what is new."""
    place.configure("carts")
    events = cart_events(random.Random(1), 400)
    parts = [events[number::4] for number in range(4)]
    place.archive("carts", "0.jsonl", parts[0])
    marts(place)
    stepwise = place.build("stepwise")
    for number, part in enumerate(parts[1:], start=1):
        place.archive("carts", f"{number}.jsonl", part)
        place.refresh(stepwise)
    at_once = place.build("at_once")
    assert differences(stepwise, at_once, relations(at_once)) == {}
    compiled = [
        path
        for path in (at_once.folder / "target" / "compiled").rglob("models/**/*.sql")
        if path.parent.suffix != ".yml"  # these are tests
    ]
    assert len(compiled) >= 9
    assert [guess for path in compiled for guess in guesses(path.read_text())] == []
    assert_states(
        at_once.rows(
            "select cart_id, events, opened_events, last_customer, cast(last_amount as varchar) from cart_states"
        ),
        events,
    )
    assert at_once.rows("select count(*) from cart_log") == [(len({event["event_id"] for event in events}),)]
    [(days, total)] = at_once.rows("select sum(events), cast(sum(total_amount) as varchar) from cart_days")
    once = {event["event_id"]: event for event in events}.values()
    assert days == len(once)
    assert total == f"{sum(round(100 * event.get('amount', 0)) for event in once) / 100:.2f}"


def assert_states(rows: list[tuple[Any, ...]], events: list[dict[str, Any]]) -> None:
    """Each cart is what its events add up to by its own counter, whatever the order in which they came."""
    carts: dict[str, list[dict[str, Any]]] = {}
    for event in {event["event_id"]: event for event in events}.values():
        if event["cart_id"] is not None:
            carts.setdefault(event["cart_id"], []).append(event)
    expected = []
    for cart, of_cart in carts.items():
        of_cart.sort(key=lambda event: event["cart_version"])
        customers = [event["customer"] for event in of_cart if "customer" in event]
        amounts = [event["amount"] for event in of_cart if "amount" in event]
        expected.append(
            (
                cart,
                len(of_cart),
                len(customers),
                (customers or [None])[-1],
                f"{amounts[-1]:.2f}" if amounts else None,
            )
        )
    assert sorted(rows) == sorted(expected)


def test_the_order_of_events_is_their_counter_or_it_is_said_that_there_is_none(place: Place) -> None:
    """A counter of the key's own is found; without one the model says why arrival is no order."""
    place.configure("carts", "clicks")
    place.archive("carts", "0.jsonl", cart_events(random.Random(2), 30))
    place.archive(
        "clicks",
        "0.jsonl",
        [{"event_id": f"{n}", "page": f"p{n % 3}", "at": "2026-01-01T00:00:00Z"} for n in range(30)],
    )
    for stream in ("carts", "clicks"):
        assert place.run("scaffold", "stream", stream).returncode == 0
    counted = place.run("scaffold", "mart", "a", "--stream", "carts", "--key", "cart_id")
    assert "ordered by cart_version" in counted.stdout
    timed = place.run("scaffold", "mart", "b", "--stream", "clicks", "--key", "page")
    assert "No column counts the events" in timed.stdout
    text = (place.project / "models/marts/clicks/b.sql").read_text()
    assert "Arrival is no order" in text
    assert "order by at_, source_id, source_partition, source_offset" in text
    place.build("warehouse")


def test_a_mart_over_models_that_say_no_types_takes_those_that_were_published(place: Place) -> None:
    """Without data_type in the .yml, and nothing published: refused, with both ways out; once they are published it runs."""
    place.configure("carts")
    place.archive("carts", "0.jsonl", cart_events(random.Random(3), 30))
    assert place.run("scaffold", "stream", "carts").returncode == 0
    yml = place.project / "models/staging/carts/stg_carts__carts.yml"
    yml.write_text(
        "".join(line for line in yml.read_text().splitlines(keepends=True) if "data_type" not in line)
    )
    refused = place.run("scaffold", "mart", "cart_states", "--stream", "carts", "--key", "cart_id")
    assert refused.returncode == 2
    assert "data_type" in refused.stderr
    assert "refresh" in refused.stderr
    build_id, warehouse = new_build_id(), place.config().warehouse
    published = build_file(warehouse, build_id)
    published.parent.mkdir(parents=True)
    shutil.copy(place.build("first").file, published)
    current_link(warehouse).symlink_to(f"builds/{published.name}")
    done = place.run("scaffold", "mart", "cart_states", "--stream", "carts", "--key", "cart_id")
    assert done.returncode == 0, done.stderr
    assert place.build("second").rows("select count(*) > 20, count(last_amount) > 10 from cart_states") == [
        (True, True)
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("Carts", "--stream", "carts", "--key", "cart_id"), 2),
        (("a", "--stream", "carts", "--key", "nothing"), 2),
        (("a", "--stream", "carts"), 2),
        (("a", "--stream", "unknown", "--key", "cart_id"), 2),
        (("a", "--stream", "carts", "--key", "cart_id", "--key", "cart_id"), 2),
        (("a", "--stream", "carts", "--key", "cart_id", "--level", "day"), 2),
        (("a", "--stream", "carts", "--key", "cart_id", "--level", "event"), 2),
        (("a", "--stream", "carts", "--key", "cart_id", "--order-by", "nothing"), 2),
        (("a", "--stream", "carts", "--key", "cart_id", "--level", "week"), 2),
        (("stg_carts__carts", "--stream", "carts", "--key", "cart_id"), 1),
    ],
)
def test_what_cannot_be_scaffolded_is_refused_before_anything_is_written(
    place: Place, arguments: tuple[str, ...], code: int
) -> None:
    """Names that are none, columns that aren't there, a name that a model has: one sentence, no file."""
    place.configure("carts")
    place.archive("carts", "0.jsonl", cart_events(random.Random(4), 30))
    assert place.run("scaffold", "stream", "carts").returncode == 0
    done = place.run("scaffold", "mart", *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert not (place.project / "models/marts").exists()
