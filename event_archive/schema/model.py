"""What is known of the payloads of a stream, path by path.

What doesn't live here: how it is found (`scan`, `summary`), and what its changes are called (`drift`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

ROOT = "$"
"""The path of the whole payload."""

KINDS = ("null", "boolean", "integer", "number", "string", "timestamp", "date", "uuid", "object", "list")
"""What a value may be. The place of a kind here is its bit in a mask. `number` has a point, an exponent, or too many digits for 64 bits;
`timestamp` (RFC 3339 with offset), `date` and `uuid` are strings of that form."""

FORMATS = frozenset({"timestamp", "date", "uuid"})
"""Kinds that are strings in JSON."""


@dataclass(frozen=True, slots=True)
class Seen:
    """From when to when something was seen.

    Attributes:
        first_commit: The first commit of the archive that brought it.
        last_commit: The last one.
        first_ingested_at: When that first commit was made.
        last_ingested_at: When that last commit was made.
        first_time: The least time of such an event; None if they have none.
        last_time: The greatest.
    """

    first_commit: int
    last_commit: int
    first_ingested_at: dt.datetime
    last_ingested_at: dt.datetime
    first_time: dt.datetime | None
    last_time: dt.datetime | None


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What is known of one path.

    Attributes:
        path: `a.b`, `a[]` for the elements of a list, `a.*` for the keys of an object that are too many to be names; names
            other than a-z, A-Z, 0-9, _ and - in double quotes, as JSON writes them. `$` is the whole payload.
        keys: The steps to it; None for the elements of a list or the many keys of an object.
        events: How many events have it, with whatever value.
        share: Of the events that are JSON, how many have it, 0 to 1.
        kinds: Events by kind of value, most frequent first; an event with several values in lists counts for each of their kinds.
        seen: When.
        kinds_seen: When each of the kinds was seen.
        types: Events that have it, by the type of the event; empty if types aren't known.
    """

    path: str
    keys: tuple[str | None, ...]
    events: int
    share: float
    kinds: Mapping[str, int]
    seen: Seen
    kinds_seen: Mapping[str, Seen]
    types: Mapping[str, int]

    def kind_shares(self) -> dict[str, float]:
        """Of the events that have the path, how many have each kind, most frequent first."""
        return {kind: events / self.events for kind, events in self.kinds.items()}

    @property
    def format(self) -> str | None:
        """The form that all of its strings have: timestamp, date or uuid; None if not all have the same one."""
        strings = {kind for kind in self.kinds if kind in FORMATS or kind == "string"}
        return next(iter(strings)) if len(strings) == 1 and strings <= FORMATS else None


@dataclass(frozen=True, slots=True)
class DayFacts:
    """One path on one day.

    Attributes:
        day: UTC.
        path: See `PathFacts`.
        events: How many events of that day have it.
        share: Of that day's events that are JSON.
        kinds: Events of that day by kind of value.
    """

    day: dt.date
    path: str
    events: int
    share: float
    kinds: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """What the payloads of a stream say.

    Attributes:
        stream: Its name.
        version: The newest commit of the snapshot that was read; -1 if there is none.
        events: Events that were looked at.
        of_events: Events that there are; more, if a sample was taken.
        json_events: How many of `events` are JSON.
        not_json: How many are UTF-8 but no JSON.
        not_utf8: How many are no UTF-8.
        null_values: How many have no value at all.
        type_field: The path that tells types of events apart, None if there is none.
        types: Events by type, most frequent first.
        paths: By path; empty if no event is JSON.
        days: Per day and path, if asked for.
        drift: What has changed on the way, in words.
        notes: What was left out or put together.
    """

    stream: str
    version: int
    events: int
    of_events: int
    json_events: int
    not_json: int
    not_utf8: int
    null_values: int
    type_field: str | None
    types: Mapping[str, int]
    paths: tuple[PathFacts, ...]
    days: tuple[DayFacts, ...]
    drift: tuple[str, ...]
    notes: tuple[str, ...]

    def path(self, name: str) -> PathFacts | None:
        """What is known of a path, by its name."""
        return next((facts for facts in self.paths if facts.path == name), None)
