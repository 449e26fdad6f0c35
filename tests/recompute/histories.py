"""Any history of an archive and of the warehouse that is made of it: what services said, how it was archived, and when who refreshed what.

What doesn't live here: playing a history (`replay`, `real_dbt`).

There are few bookings, flights, carts, products, seats, days and counters, so that what is said of them collides: counters have ties and
gaps, an id comes again with the same or with another content, a booking moves to another flight, a cart is emptied. Hypothesis makes an example
that fails smaller by itself: everything simple stands first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STREAMS = ("bookings", "cart_events")


@dataclass(frozen=True)
class Event:
    """An event as it is archived."""

    value: bytes | None
    source: str = "file:a.jsonl"
    partition: int = 0


@dataclass(frozen=True)
class Commit:
    """Events are archived together."""

    stream: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Compact:
    """What a stream has is rewritten into one file."""

    stream: str


@dataclass(frozen=True)
class Refresh:
    """The tables are brought up to what the archive holds now."""

    select: tuple[str, ...] = ()
    """As `--select` has it; empty: all."""
    in_full: bool = False
    """With `--full-refresh`."""
    stale: tuple[str, ...] = ()
    """Models whose code has changed, the plan says."""
    is_thrown_away: bool = False
    """What was built is never published; the next one goes on from what this one began with."""
    killed_after: float | None = None
    """The share of its statements after which it dies. What the models before have committed stays."""
    order: int = 0
    """Which of the possible orders of models; 0 is the one that dbt takes with one thread."""


@dataclass(frozen=True)
class Backfill:
    """A range is computed again in the tables as they are: of days, or else the entities of some commits of each stream."""

    days: tuple[str, str] | None = None
    commits: tuple[int, int] = (0, 0)


Step = Commit | Compact | Refresh | Backfill
History = tuple[Step, ...]

_MOMENTS = (
    "2013-03-01T10:00:00Z",
    "2013-03-01T10:00:00.250000-05:00",
    "2013-03-01T23:30:00-05:00",
    "2013-03-02T04:30:00+00:00",
    "2013-03-10T07:00:00Z",
    "2012-12-31T23:59:59.999999Z",
)
_DEPARTURES = (
    "2013-03-02T09:00:00-05:00",
    "2013-03-03T02:00:00Z",
    "2013-03-10T06:59:00Z",
    "2013-03-02T21:00:00+05:30",
)
_KINDS_OF_BOOKINGS = (
    "booking_confirmed",
    "booking_confirmed",
    "seat_changed",
    "seat_changed",
    "booking_cancelled",
    "checked_in",
    "flight_scheduled",
    "flight_rescheduled",
    "command_refused",
)
_SEATS = ("1A", "1B", "2A")
_FLIGHTS = ("F1", "F2")
_NO_EVENTS = (
    None,
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"event_id": "b1"}',
    b'{"a": NaN}',
    b'{"event_id": "c1", "event_type": "cart_opened", "schema_version": 9}',
)
_WRONG: tuple[Any, ...] = (None, "", -1, 1.5, [], {}, "3", 10**30, True)


@st.composite
def _booking(draw: Callable[..., Any], number: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(_KINDS_OF_BOOKINGS))
    event = {
        "event_id": f"b{number}",
        "event_type": kind,
        "schema_version": draw(st.sampled_from((1, 2))),
        "occurred_at": draw(st.sampled_from(_MOMENTS)),
        "sequence": draw(st.integers(1, 9)),
    }
    if kind == "command_refused":
        event |= {"command": "book", "reason": "seat_taken"}
        event |= {
            "flight_id": draw(st.sampled_from((None, *_FLIGHTS))),
            "booking_id": draw(st.sampled_from((None, "B1"))),
        }
        return event
    event["flight_id"] = draw(st.sampled_from(_FLIGHTS))
    if kind.startswith("flight"):
        return {**event, **draw(_of_a_flight(kind))}
    event["booking_id"] = draw(st.sampled_from(("B1", "B1", "B2", "B3")))
    return {**event, **draw(_of_a_booking(kind, event["schema_version"]))}


@st.composite
def _of_a_flight(draw: Callable[..., Any], kind: str) -> dict[str, Any]:
    departs_at = draw(st.sampled_from(_DEPARTURES))
    if kind == "flight_rescheduled":
        return {"departs_at": departs_at, "reason": "weather"}
    return {
        "departs_at": departs_at,
        "carrier": "UA",
        "flight_number": 1,
        "origin": draw(st.sampled_from(("EWR", "XXX"))),
        "destination": "IAH",
        "capacity": draw(st.sampled_from((2, 0, 3))),
    }


@st.composite
def _of_a_booking(draw: Callable[..., Any], kind: str, schema_version: int) -> dict[str, Any]:
    seat = draw(st.sampled_from(_SEATS))
    if kind == "seat_changed":
        return {"from_seat": draw(st.sampled_from(_SEATS)), "to_seat": seat}
    if kind == "booking_cancelled":
        return {"seat": seat, "reason": draw(st.sampled_from(("changed plans", "ill")))}
    if kind == "checked_in":
        return {"seat": seat}
    cents = draw(st.sampled_from((9950, 10000, 1)))
    fare = (
        {"price": cents / 100}
        if schema_version == 1
        else {"fare": {"amount_cents": cents, "currency": "USD"}}
    )
    return {"seat": seat, "passenger_id": draw(st.sampled_from(("P1", "P2"))), **fare}


@st.composite
def _cart_event(draw: Callable[..., Any], number: int) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            (
                "item_added",
                "item_added",
                "item_removed",
                "item_removed",
                "quantity_changed",
                "cart_checked_out",
                "cart_checked_out",
                "cart_opened",
                "cart_abandoned",
            )
        )
    )
    version = draw(st.sampled_from((1, 2)))
    event = {
        "event_id": f"c{number}",
        "event_type": kind,
        "schema_version": version,
        "occurred_at": draw(st.sampled_from(_MOMENTS)),
        "cart_id": draw(st.sampled_from(("C1", "C1", "C2", "C3"))),
        "cart_version": draw(st.integers(1, 6)),
    }
    cents = draw(st.sampled_from((250, 199, 0)))
    if kind == "cart_opened":
        event["customer_id"] = draw(st.sampled_from(("K1", "K2")))
    elif kind == "cart_checked_out":
        event |= {"total": cents / 100} if version == 1 else {"total_cents": cents}
    elif kind != "cart_abandoned":
        event["product_id"] = draw(st.sampled_from(("S1", "S1", "S2", "unheard-of")))
        if kind != "item_removed":
            event["quantity"] = draw(st.integers(1, 3))
        if kind == "item_added":
            event |= {"unit_price": cents / 100} if version == 1 else {"unit_price_cents": cents}
    return event


_SAYS: dict[str, Callable[[int], st.SearchStrategy[dict[str, Any]]]] = {
    "bookings": _booking,
    "cart_events": _cart_event,
}


@st.composite
def _events(draw: Callable[..., Any], stream: str, said: list[dict[str, Any]]) -> tuple[Event, ...]:
    """What one commit brings; `said` are the sound events of this stream before it."""
    events = []
    for _ in range(draw(st.sampled_from((1, 2, 3, 5, 8)))):
        value: bytes | None
        kind = draw(
            st.sampled_from(("new", "new", "new", "new", "new", "again", "same id", "damaged", "no event"))
        )
        if kind == "no event":
            value = draw(st.sampled_from(_NO_EVENTS))
        else:
            fields = draw(_SAYS[stream](len(said)))
            if kind in {"again", "same id"} and said:
                earlier = said[draw(st.integers(0, len(said) - 1))]
                fields = earlier if kind == "again" else {**fields, "event_id": earlier["event_id"]}
            elif kind == "damaged":
                name = draw(st.sampled_from(sorted(fields)))
                fields = {**fields, name: draw(st.sampled_from(_WRONG))}
            said.append(fields)
            value = json.dumps(fields).encode()
        source, partition = draw(
            st.sampled_from((("file:a.jsonl", 0), ("file:a.jsonl", 1), ("file:0.jsonl", 0)))
        )
        events.append(Event(value, source, partition))
    return tuple(events)


@st.composite
def refreshes(draw: Callable[..., Any], models: Sequence[str]) -> Refresh:
    """A refresh of any kind, whatever may become of it.

    Args:
        draw: Given by hypothesis.
        models: The models that there are.
    """
    names = st.sampled_from(models)
    kind = draw(
        st.sampled_from(
            ("all", "all", "all", "select", "select", "killed", "stale", "rebuild", "thrown away")
        )
    )
    selected = st.lists(
        st.tuples(st.sampled_from(("", "+")), names, st.sampled_from(("", "+"))).map("".join),
        min_size=1,
        max_size=2,
    ).map(tuple)
    select = draw(selected) if kind in {"select", "rebuild"} else ()
    order = draw(st.integers(0, 3))
    if kind == "killed":
        killed_after = draw(st.floats(0, 1, width=16, exclude_max=True))
        return Refresh(killed_after=killed_after, in_full=draw(st.booleans()), order=order)
    stale = (draw(names),) if kind == "stale" else ()
    return Refresh(select, kind == "rebuild", stale, kind == "thrown away", order=order)


@st.composite
def _backfills(draw: Callable[..., Any]) -> Backfill:
    first, last = sorted((draw(st.integers(0, 5)), draw(st.integers(0, 5))))
    if draw(st.booleans()):
        return Backfill(commits=(first, last))
    days = ("2012-12-31", "2013-03-01", "2013-03-02", "2013-03-03", "2013-03-10", "2013-03-11")
    return Backfill(days=(days[first], days[last]))


@st.composite
def histories(draw: Callable[..., Any], models: Sequence[str], streams: Sequence[str] = STREAMS) -> History:
    """Histories, each of which would be ended by a refresh of everything.

    Args:
        draw: Given by hypothesis.
        models: Those that refreshes may name.
        streams: Those that get events.
    """
    said: dict[str, list[dict[str, Any]]] = {stream: [] for stream in streams}
    steps: list[Step] = []
    for _ in range(draw(st.sampled_from((1, 2, 3, 3)))):
        steps += draw(_commits(streams, said))
        steps.append(draw(refreshes(models)))
        if draw(st.integers(0, 4)) == 4:
            steps += draw(_commits(streams, said))
            steps.append(draw(_backfills()))
    return (*steps, *draw(_commits(streams, said)))


@st.composite
def _commits(
    draw: Callable[..., Any], streams: Sequence[str], said: dict[str, list[dict[str, Any]]]
) -> list[Step]:
    steps: list[Step] = []
    for _ in range(draw(st.sampled_from((1, 2, 3, 0)))):
        stream = draw(st.sampled_from(streams))
        steps.append(Commit(stream, draw(_events(stream, said[stream]))))
        if draw(st.integers(0, 9)) == 9:
            steps.append(Compact(draw(st.sampled_from(streams))))
    return steps
