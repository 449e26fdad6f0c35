"""Ways in which a line can be broken so that today's contract (`EVENTS.md`) refuses it; when lines break is `delivery.py`'s.

Each way is beyond dispute: nothing here depends on how lenient a JSON parser is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# Fields that a well-formed event may do without, or have as null.
OPTIONAL_FIELDS = {"note"}
OPTIONAL_FIELDS_OF_REFUSALS = {"note", "flight_id", "booking_id", "seat"}

NOISE = (
    b"ERROR 2013-03-04 connection reset by peer",
    b"<html><body>502 Bad Gateway</body></html>",
    b"event_id,event_type,schema_version,occurred_at",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"event_id=17 event_type=checked_in",
)
SCALARS = (b"42", b"null", b"true", b'"booking_confirmed"', b'""')
BAD_TIMESTAMPS = (
    "yesterday",
    "",
    "2013-13-01T00:00:00Z",
    "2013-02-30T10:00:00-05:00",
    "2013-03-04T10:00:00",
    "2013-03-04",
    "25:61",
)
UNKNOWN_EVENT_TYPES = ("seat_teleported", "", "BOOKING_CONFIRMED", "cart opened", "null")
UNKNOWN_SCHEMA_VERSIONS = (0, 99, -1, 4)


def break_line(kind: str, line: bytes, rng: random.Random) -> bytes:
    """Make a malformed line out of a well-formed one.

    Args:
        kind: One of `KINDS`.
        line: An event's line, without its end.
        rng: Decides between the variants of a kind.
    """
    return KINDS[kind](line, rng)


def _not_utf_8(line: bytes, rng: random.Random) -> bytes:
    stray = rng.choice((b"\xff\xfe", b"caf\xe9", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98"))
    return line.replace(b'","', stray + b'","', 1)


def _cut(line: bytes, rng: random.Random) -> bytes:
    return line[: rng.randint(1, len(line) - 1)]


def _noise(_line: bytes, rng: random.Random) -> bytes:
    return rng.choice(NOISE)


def _scalar(_line: bytes, rng: random.Random) -> bytes:
    return rng.choice(SCALARS)


def _array(line: bytes, _rng: random.Random) -> bytes:
    return b"[" + line + b"]"


def _two_in_one_line(line: bytes, _rng: random.Random) -> bytes:
    return line + line


def _empty_object(_line: bytes, _rng: random.Random) -> bytes:
    return b"{}"


def _missing_field(line: bytes, rng: random.Random) -> bytes:
    event = json.loads(line)
    del event[rng.choice(_required_fields(event))]
    return _to_line(event)


def _null_field(line: bytes, rng: random.Random) -> bytes:
    event = json.loads(line)
    event[rng.choice(_required_fields(event))] = None
    return _to_line(event)


def _wrong_type(line: bytes, rng: random.Random) -> bytes:
    event = json.loads(line)
    field = rng.choice(_required_fields(event))
    value = event[field]
    if isinstance(value, str):
        event[field] = rng.choice((17, [value], {"value": value}, False))
    elif isinstance(value, dict):
        event[field] = rng.choice(("USD 12.50", 12.5, []))
    else:  # the tempting one: the right number, in quotes
        event[field] = rng.choice((str(value), str(value), [value], "many"))
    return _to_line(event)


def _out_of_range(line: bytes, rng: random.Random) -> bytes:
    event = json.loads(line)
    counter = "sequence" if "sequence" in event else "cart_version"
    event[counter] = rng.choice((0, -1, 1.5))
    return _to_line(event)


def _unknown_event_type(line: bytes, rng: random.Random) -> bytes:
    return _to_line(json.loads(line) | {"event_type": rng.choice(UNKNOWN_EVENT_TYPES)})


def _unknown_schema_version(line: bytes, rng: random.Random) -> bytes:
    return _to_line(json.loads(line) | {"schema_version": rng.choice(UNKNOWN_SCHEMA_VERSIONS)})


def _bad_timestamp(line: bytes, rng: random.Random) -> bytes:
    return _to_line(json.loads(line) | {"occurred_at": rng.choice(BAD_TIMESTAMPS)})


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "not_utf_8": _not_utf_8,
    "cut": _cut,
    "noise": _noise,
    "scalar": _scalar,
    "array": _array,
    "two_in_one_line": _two_in_one_line,
    "empty_object": _empty_object,
    "missing_field": _missing_field,
    "null_field": _null_field,
    "wrong_type": _wrong_type,
    "out_of_range": _out_of_range,
    "unknown_event_type": _unknown_event_type,
    "unknown_schema_version": _unknown_schema_version,
    "bad_timestamp": _bad_timestamp,
}


def _required_fields(event: dict[str, Any]) -> list[str]:
    optional = OPTIONAL_FIELDS_OF_REFUSALS if event["event_type"] == "command_refused" else OPTIONAL_FIELDS
    return [field for field in event if field not in optional]


def _to_line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
