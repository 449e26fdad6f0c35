"""What the newest events of a stream are expected to look like, one suite per stream, as plain data.

What doesn't live here: running a suite (`archive_checks`). Rules that must hold for every accepted event are the models'
tests; these are about the stream as it arrives, where some malformed events are normal and many are an incident.
"""

from dataclasses import dataclass, field
from typing import Any

RFC_3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
MOSTLY = 0.95
"""Share of events that must be as expected; the rest are for staging to reject."""


@dataclass(frozen=True)
class Expectation:
    """One expectation: the name of a class in `great_expectations.expectations`, and its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What is expected of one stream.

    Attributes:
        fields: Names of the payload's fields that are read, each into a column of text; null where an event lacks it.
        expectations: About those columns, and about `is_json_object` (boolean).
    """

    fields: tuple[str, ...]
    expectations: tuple[Expectation, ...]


def _present(column: str) -> Expectation:
    return Expectation("ExpectColumnValuesToNotBeNull", {"column": column, "mostly": MOSTLY})


def _one_of(column: str, values: list[Any]) -> Expectation:
    return Expectation(
        "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values, "mostly": MOSTLY}
    )


def _matches(column: str, regex: str) -> Expectation:
    return Expectation("ExpectColumnValuesToMatchRegex", {"column": column, "regex": regex, "mostly": MOSTLY})


def _event_suite(*, event_types: list[str], counter: str) -> Suite:
    """What both services promise; `counter` is the service's own order of events."""
    common = ("event_id", "event_type", "schema_version", "occurred_at", counter)
    return Suite(
        fields=common,
        expectations=(
            _one_of("is_json_object", [True]),
            *(_present(column) for column in common),
            _one_of("event_type", event_types),
            _one_of("schema_version", ["1", "2"]),
            _matches("occurred_at", RFC_3339),
            _matches(counter, r"^[1-9]\d*$"),
            # Deliveries are repeated now and then; if half of them are, a producer is stuck.
            Expectation(
                "ExpectColumnProportionOfUniqueValuesToBeBetween", {"column": "event_id", "min_value": 0.5}
            ),
        ),
    )


SUITES: dict[str, Suite] = {
    "bookings": _event_suite(
        event_types=[
            "flight_scheduled",
            "flight_rescheduled",
            "booking_confirmed",
            "seat_changed",
            "booking_cancelled",
            "checked_in",
            "command_refused",
        ],
        counter="sequence",
    ),
    "cart_events": _event_suite(
        event_types=[
            "cart_opened",
            "item_added",
            "quantity_changed",
            "item_removed",
            "cart_checked_out",
            "cart_abandoned",
        ],
        counter="cart_version",
    ),
}
"""By name of the stream. A stream without a suite has no such check."""
