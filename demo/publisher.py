"""Carries the booking service's events from its outbox to a landing folder or a topic, at least once.

The order of steps is the whole point: events are there, safe, before the outbox is told so. Whoever stops in between publishes them
again the next time: a duplicate, never a loss. (A producer's idempotence only covers its own retries.) Which decisions are made isn't
known here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from demo.landing import land_lines
from demo.topic import record_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.booking_commands import Event
    from demo.booking_service import BookingService
    from demo.topic import TopicWriter


class OutboxEvent(NamedTuple):
    """An event that waits to be published: its place, its type, and its line."""

    sequence: int
    event_type: str
    line: bytes


def publish(
    service: BookingService, deliver: Callable[[list[OutboxEvent]], object], *, limit: int = 100_000
) -> int:
    """Deliver the outbox's oldest events, then take them out of it.

    Args:
        service: The service whose events are due.
        deliver: Brings events to where they are safe; raises if it can't.
        limit: The most events to deliver in one go.

    Returns:
        How many were delivered.
    """
    # Sequences are given out under the write lock, so that no smaller one can appear after this look.
    rows = service.database.execute(
        "select sequence, event_type, event from events order by sequence limit ?", (limit,)
    ).fetchall()
    if not rows:
        return 0
    events = [OutboxEvent(sequence, event_type, event.encode()) for sequence, event_type, event in rows]
    deliver(events)
    with service.transaction() as cursor:
        through = events[-1].sequence
        cursor.execute("update publisher set published_through = max(published_through, ?)", (through,))
        cursor.execute("delete from events where sequence <= ?", (through,))
    return len(events)


def to_landing(folder: Path, day: str, name: str = "booking") -> Callable[[list[OutboxEvent]], Path]:
    """Make a `deliver` that puts events into `<folder>/<day>/<name>-<nn>.jsonl`, one new file per call."""

    def deliver(events: list[OutboxEvent]) -> Path:
        return land_lines(folder / day, name, (event.line for event in events))

    return deliver


def to_topic(writer: TopicWriter, server: str = "booking") -> Callable[[list[OutboxEvent]], None]:
    """Make a `deliver` that returns when the brokers have confirmed all events, those of a flight in their order."""

    def deliver(events: list[OutboxEvent]) -> None:
        for event in events:
            writer.send(event.line, key=key_of(json.loads(event.line)), headers=record_headers(server))
        writer.confirm()

    return deliver


def key_of(event: Event) -> bytes | None:
    """Return the flight that an event is about, by which a topic keeps its order; None if the service never knew."""
    flight_id = event.get("flight_id")
    return str(flight_id).encode() if flight_id is not None else None
