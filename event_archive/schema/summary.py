"""Reads what a scan has counted into what is known of each path.

What doesn't live here: counting (`scan`), and saying what has changed (`drift`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive.schema.expressions import bit, keys_of
from event_archive.schema.model import KINDS, ROOT, DayFacts, PathFacts, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb


_NO_TIME = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of the events as a whole.

    Attributes:
        states: Events by state: json, not_json, not_utf8, null_value.
        types: JSON events by type, most frequent first.
        commits: When each commit was made.
    """

    states: Mapping[str, int]
    types: Mapping[str, int]
    commits: Mapping[int, dt.datetime]

    @property
    def json_events(self) -> int:
        """How many events are JSON."""
        return self.states.get("json", 0)


def totals(connection: duckdb.DuckDBPyConnection) -> Totals:
    """Sums of the table `totals`."""
    states = connection.execute("select state, sum(events) from totals group by state").fetchall()
    types = connection.execute(
        "select type, sum(events) as events from totals where state = 'json' and type is not null group by type "
        "order by events desc, type"
    ).fetchall()
    commits = connection.execute(
        "select commit_version, epoch_us(min(ingested_at)) from totals where commit_version in (select first_commit from seen union all "
        "select last_commit from seen) group by commit_version"
    ).fetchall()
    return Totals(
        {state: int(events) for state, events in states},
        {name: int(events) for name, events in types},
        {commit: time_of(made_us) or _NO_TIME for commit, made_us in commits},
    )


_COUNTS = "cast(sum(events) as bigint), min(first_commit), max(last_commit), epoch_us(min(first_time)), epoch_us(max(last_time))"


def paths(connection: duckdb.DuckDBPyConnection, known: Totals) -> tuple[PathFacts, ...]:
    """What is known of each path, in the order of their names; the whole payload first."""
    kinds: dict[str, dict[str, tuple[int, Seen]]] = {}
    for path, kind, *counts in connection.execute(
        _by_kind(f"path, kind, {_COUNTS}", "path, kind")
    ).fetchall():
        kinds.setdefault(path, {})[kind] = (counts[0], _seen(counts[1:], known))
    types: dict[str, dict[str, int]] = {}
    for path, name, events in connection.execute(
        "select path, type, cast(sum(events) as bigint) as events from seen where type is not null group by path, type "
        "order by events desc, type"
    ).fetchall():
        types.setdefault(path, {})[name] = events
    found = []
    for path, *counts in connection.execute(f"select path, {_COUNTS} from seen group by path").fetchall():
        ordered = sorted(kinds[path].items(), key=lambda item: (-item[1][0], KINDS.index(item[0])))
        found.append(
            PathFacts(
                path=path,
                keys=keys_of(path),
                events=counts[0],
                share=counts[0] / known.json_events,
                kinds={kind: events for kind, (events, _) in ordered},
                seen=_seen(counts[1:], known),
                kinds_seen={kind: seen for kind, (_, seen) in ordered},
                types=types.get(path, {}),
            )
        )
    return tuple(sorted(found, key=lambda facts: (facts.path != ROOT, facts.path)))


def days(connection: duckdb.DuckDBPyConnection) -> tuple[DayFacts, ...]:
    """What is known of each path on each day; events without a day are left out."""
    kinds: dict[tuple[dt.date, str], dict[str, int]] = {}
    for day, path, kind, events in connection.execute(
        _by_kind("day, path, kind, cast(sum(events) as bigint) as events", "day, path, kind")
        + " order by events desc, kind"
    ).fetchall():
        kinds.setdefault((day, path), {})[kind] = events
    rows = connection.execute(
        "select day, path, cast(sum(seen.events) as bigint), any_value(whole.events) from seen join ("
        "  select day, sum(events) as events from totals where state = 'json' group by day"
        ") as whole using (day) group by day, path order by day, path"
    ).fetchall()
    return tuple(
        DayFacts(day, path, events, events / int(of), kinds[day, path]) for day, path, events, of in rows
    )


def _by_kind(columns: str, group: str) -> str:
    """A query over `seen` with a row per kind of value: an event with several kinds is in several."""
    names = ", ".join(f"({bit(kind)}, '{kind}')" for kind in KINDS)
    return (
        f"select {columns} from seen join (values {names}) as kinds_of(mask, kind) on seen.kinds & kinds_of.mask > 0 "
        f"group by {group}"
    )


def _seen(counts: list[Any], known: Totals) -> Seen:
    first, last, first_us, last_us = counts
    return Seen(
        first,
        last,
        known.commits[first],
        known.commits[last],
        None if first_us is None else time_of(first_us),
        None if last_us is None else time_of(last_us),
    )


def time_of(epoch_us: int) -> dt.datetime | None:
    """A time from microseconds since 1970; None outside of the years 1 to 9999. DuckDB's own conversion needs a further library."""
    try:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=epoch_us)
    except OverflowError:
        return None
