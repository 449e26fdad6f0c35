"""What has changed in a stream's payloads on the way, in words: what appeared, vanished, was renamed, changed its type or its share.

Rare things always come late and end early. So something has only appeared (or vanished) if that is no chance: were its events spread evenly over
all, the odds that all of them lie behind (or before) one place would be less than one in a million; or, for what is in half of the events since
(until) then, one in five hundred. Where events have types, only those that have a path at all are counted.

What doesn't live here: what is known of each path (`summary`).
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from event_archive.schema.model import FORMATS, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import duckdb

    from event_archive.schema.model import PathFacts

_FEWEST = 3
_ODDS = math.log(1_000_000)
_ODDS_IF_OFTEN = math.log(500)
_OFTEN = 0.5
_LEAST_CHANGE = 0.2
_LEAST_EVENTS = 100
_MOST_CHANGES = 200


@dataclass(frozen=True, slots=True)
class _Span:
    """From where to where something was seen: commits, or days as numbers."""

    first: int
    last: int
    events: int


@dataclass(frozen=True, slots=True)
class _Change:
    at: int
    text: str


class _Way:
    """How many events there are up to each place on the way: a commit, or a day."""

    def __init__(self, rows: Iterable[tuple[str | None, int, int]]) -> None:
        by_type: dict[str | None, list[tuple[int, int]]] = {}
        for name, place, events in rows:
            by_type.setdefault(name, []).append((place, events))
        self._places = {name: [place for place, _ in sorted(rows)] for name, rows in by_type.items()}
        self._counts = {
            name: [0, *accumulate(events for _, events in sorted(rows))] for name, rows in by_type.items()
        }

    def before(self, place: int, types: Iterable[str | None]) -> int:
        """Events before a place."""
        return sum(
            self._counts[name][bisect_left(self._places[name], place)]
            for name in types
            if name in self._places
        )

    def since(self, place: int, types: Iterable[str | None]) -> int:
        """Events after a place."""
        return sum(
            self._counts[name][-1] - self._counts[name][bisect_right(self._places[name], place)]
            for name in types
            if name in self._places
        )

    def span(self, name: str) -> _Span:
        """From where to where there are events of a type."""
        return _Span(self._places[name][0], self._places[name][-1], self._counts[name][-1])

    @property
    def types(self) -> list[str | None]:
        """All types; None are events without one."""
        return list(self._counts)

    def total(self, types: Iterable[str | None]) -> int:
        """All events of some types."""
        return sum(self._counts[name][-1] for name in types if name in self._counts)


def drift(connection: duckdb.DuckDBPyConnection, found: tuple[PathFacts, ...], *, by_day: bool) -> list[str]:
    """What has changed, in the order in which it did.

    Args:
        connection: After a scan.
        found: What is known of each path.
        by_day: Whether the way goes by the events' own days rather than by the commits that brought them.
    """
    place = "date_diff('day', date '0001-01-01', day) + 1" if by_day else "commit_version"
    first, last = (
        (
            "date_diff('day', date '0001-01-01', min(day)) + 1",
            "date_diff('day', date '0001-01-01', max(day)) + 1",
        )
        if by_day
        else ("min(first_commit)", "max(last_commit)")
    )
    known = "where day is not null" if by_day else "where true"
    way = _Way(
        connection.execute(
            f"select type, {place}, cast(sum(events) as bigint) from totals {known} and state = 'json' group by all"
        ).fetchall()
    )
    spans = {
        path: _Span(*counts)
        for path, *counts in connection.execute(
            f"select path, {first}, {last}, cast(sum(events) as bigint) from seen {known} group by path"
        ).fetchall()
    }
    kinds: dict[str, dict[str, _Span]] = {}
    for path, kinds_mask_name, *counts in connection.execute(_kinds_query(first, last, known)).fetchall():
        kinds.setdefault(path, {})[kinds_mask_name] = _Span(*counts)
    name = _day_name if by_day else _commit_name
    changes = _changed_types(way, name) + _changed_paths(way, found, spans, kinds, name)
    for facts in found:
        if facts.path in spans:
            changes += _changed_kinds(way, facts, spans[facts.path], kinds[facts.path], name)
    texts = [change.text for change in sorted(changes, key=lambda change: (change.at, change.text))]
    texts += _changed_shares(connection)
    if len(texts) > _MOST_CHANGES:
        texts[_MOST_CHANGES:] = [f"… and {len(texts) - _MOST_CHANGES} further changes"]
    return texts


def _kinds_query(first: str, last: str, known: str) -> str:
    from event_archive.schema.expressions import bit
    from event_archive.schema.model import KINDS

    names = ", ".join(f"({bit(kind)}, '{'string' if kind in FORMATS else kind}')" for kind in KINDS)
    return (
        f"select path, kind, {first}, {last}, cast(sum(events) as bigint) from seen "
        f"join (values {names}) as kinds_of(mask, kind) on seen.kinds & kinds_of.mask > 0 {known} group by path, kind"
    )


def _commit_name(place: int) -> str:
    return f"commit {place}"


def _day_name(place: int) -> str:
    return str(dt.date.fromordinal(place))


def _appeared(way: _Way, span: _Span, types: list[str | None], of: float = 1.0) -> float | None:
    """Its share since it appeared; None if it was there from the beginning, or that may be chance. `of` is the share of what it is a part of."""
    total = way.total(types) * of
    return _share_of_no_chance(span.events, total - way.before(span.first, types) * of, total)


def _vanished(way: _Way, span: _Span, types: list[str | None], of: float = 1.0) -> int | None:
    """How many events there were since it vanished; None if it is still there, or that may be chance."""
    total, since = way.total(types) * of, way.since(span.last, types) * of
    return None if _share_of_no_chance(span.events, total - since, total) is None else int(since)


def _share_of_no_chance(events: int, there: float, total: float) -> float | None:
    """The share of some events among those where they are; None if it may be chance that they all are there and not among the rest."""
    if events < _FEWEST or not 0 < there < total:
        return None
    share = min(1.0, events / there)
    odds = events * math.log(total / there)
    return share if odds > (_ODDS if share < _OFTEN else _ODDS_IF_OFTEN) else None


def _changed_types(way: _Way, name: _Naming) -> list[_Change]:
    changes = []
    for kind in way.types:
        if kind is None:
            continue
        span = way.span(kind)
        if (share := _appeared(way, span, way.types)) is not None:
            text = f"events of type {kind} appeared with {name(span.first)}; since then {percent(share)} of events are"
            changes.append(_Change(span.first, text))
        if (since := _vanished(way, span, way.types)) is not None:
            text = f"events of type {kind} vanished after {name(span.last)}; none among the {since:,} events since"
            changes.append(_Change(span.last, text))
    return changes


def _changed_paths(
    way: _Way,
    found: tuple[PathFacts, ...],
    spans: Mapping[str, _Span],
    kinds: Mapping[str, Mapping[str, _Span]],
    name: _Naming,
) -> list[_Change]:
    appeared: dict[str, float] = {}
    vanished: dict[str, int] = {}
    for facts in found:
        if facts.path not in spans or facts.path == ROOT:
            continue
        types = _types_of(way, facts)
        if (share := _appeared(way, spans[facts.path], types)) is not None:
            appeared[facts.path] = share
        if (since := _vanished(way, spans[facts.path], types)) is not None:
            vanished[facts.path] = since
    keys = {facts.path: facts.keys for facts in found}
    changes = []
    for path, share in appeared.items():
        if any(_is_within(keys[path], keys[other]) for other in appeared):
            continue  # it came with what it stands in
        span = spans[path]
        text = f"{path} appeared with {name(span.first)}; since then {percent(share)} of the events that may have it do"
        changes.append(_Change(span.first, text))
    for path, since in vanished.items():
        if any(_is_within(keys[path], keys[other]) for other in vanished):
            continue
        span = spans[path]
        text = f"{path} vanished after {name(span.last)}; none in the {since:,} events since"
        successors = [
            other
            for other in appeared
            if keys[other][:-1] == keys[path][:-1]
            and spans[other].first > span.last
            and kinds[other].keys() == kinds[path].keys()
            and way.before(spans[other].first, way.types)
            <= way.total(way.types) - way.since(span.last, way.types)
        ]
        if successors:
            text += (
                f"; perhaps it was renamed: {', '.join(sorted(successors))} of the same type appeared then"
            )
        changes.append(_Change(span.last, text))
    return changes


def _changed_kinds(
    way: _Way, facts: PathFacts, whole: _Span, kinds: Mapping[str, _Span], name: _Naming
) -> list[_Change]:
    """Types that came later than the path itself, or ended before it."""
    types = _types_of(way, facts)
    of = whole.events / way.total(types) if way.total(types) else 0.0
    came = {
        kind: span
        for kind, span in kinds.items()
        if span.first > whole.first and _appeared(way, span, types, of) is not None
    }
    went = {
        kind: span
        for kind, span in kinds.items()
        if span.last < whole.last and _vanished(way, span, types, of) is not None
    }
    path = "the whole payload" if facts.path == ROOT else facts.path
    changes = []
    for kind, span in went.items():
        heirs = [other for other, later in came.items() if later.first > span.last]
        if heirs:
            text = f"{path} changed its type from {kind} to {' and '.join(sorted(heirs))} after {name(span.last)}"
            for heir in heirs:
                del came[heir]
        else:
            text = f"{path} is {kind} no more since {name(span.last)}"
        changes.append(_Change(span.last, text))
    for kind, span in came.items():
        changes.append(_Change(span.first, f"{path} is also {kind} since {name(span.first)}"))
    return changes


def _changed_shares(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Paths whose share has changed much from one day to the next, on the day where it changed most; by type of event."""
    rows = connection.execute(
        "with paths as (select distinct path, type from seen where path <> '$'), "
        "whole as (select day, type, sum(events) as events from totals where state = 'json' and day is not null group by all), "
        "had as (select day, path, type, sum(events) as events from seen group by all), "
        "shares as (select whole.day, paths.path, paths.type, coalesce(had.events, 0) / whole.events as share from whole "
        "  join paths on whole.type is not distinct from paths.type "
        "  left join had on had.day = whole.day and had.path = paths.path and had.type is not distinct from paths.type "
        f"  where whole.events >= {_LEAST_EVENTS}), "
        "steps as (select *, lag(share) over (partition by path, type order by day) as before from shares) "
        "select path, type, day, before, share from steps where before > 0 and share > 0 "
        f"and abs(share - before) >= {_LEAST_CHANGE} "
        "qualify row_number() over (partition by path order by abs(share - before) desc, day, type) = 1 order by day, path"
    ).fetchall()
    return [
        f"{path} was in {percent(before)} of events{f' of type {kind}' if kind else ''} the day before {day}, and then in {percent(share)}"
        for path, kind, day, before, share in rows
    ]


def _types_of(way: _Way, facts: PathFacts) -> list[str | None]:
    """The types of events that may have a path: those that ever have; all, if they have none."""
    found: list[str | None] = [kind for kind in way.types if kind in facts.types]
    without = facts.events > sum(facts.types.values())
    return [*found, *([None] if without and None in way.types else [])]


def _is_within(keys: tuple[str | None, ...], other: tuple[str | None, ...]) -> bool:
    return len(other) < len(keys) and keys[: len(other)] == other


def percent(share: float) -> str:
    """`98 %`; what is neither none nor all is never shown as if it were."""
    if 0 < share < 0.01:  # noqa: PLR2004 - a hundredth is what is shown
        return "< 1 %"
    if 0.99 < share < 1:  # noqa: PLR2004
        return "> 99 %"
    return f"{share * 100:.0f} %"


if TYPE_CHECKING:
    from collections.abc import Callable

    _Naming = Callable[[int], str]
