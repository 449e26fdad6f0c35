"""Values of some events, to tell what a field is: examples, how many decimals, whether it is the event's id.

What doesn't live here: counting paths over all events (`event_archive.schema`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.scaffold.naming import column_name
from event_archive.schema.expressions import json_path
from event_archive.sql.views import archive_select, quote_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from event_archive.schema.model import PathFacts

_LOOKED_AT = 50_000
_SHOWN = 3
_LONGEST = 40
_MOST_TYPES = 100
_FEW = 20
_MOST_PATHS = 300
_DISTINCT_IDS = 0.5
_CLEAR = 0.99  # some events are broken
_UNKNOWN_DECIMALS = 99

NUMERIC = {"integer": "bigint", "amount": "decimal(18,2)", "number": "decimal(38,9)"}
"""Types of numbers, as DuckDB calls them."""

_ID_NAMES = ("event_id", "event_uuid", "message_id", "id", "uuid")
_SAYS_SO = _ID_NAMES[:3]
_TYPE_NAMES = ("event_type", "eventType", "type", "event", "event_name", "eventName", "kind")


@dataclass(frozen=True, slots=True)
class Example:
    """What some values of a field look like.

    Attributes:
        values: Some, cut to forty characters.
        decimals: The most digits after the point; 99 if there is an exponent.
        fits: Of those that are numbers, which share each numeric type can hold.
        distinct_share: Different values per value.
        events: How many values were looked at.
    """

    values: tuple[str, ...]
    decimals: int
    fits: Mapping[str, float]
    distinct_share: float
    events: int


def read_examples(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Makes the table `example_events` of some events of `files`."""
    connection.execute(
        "create or replace temp table example_events as select payload from "
        f"({archive_select(files, with_payload=True)}) where payload is not null limit {_LOOKED_AT}"
    )


def examples(connection: duckdb.DuckDBPyConnection, paths: Sequence[PathFacts]) -> dict[str, Example]:
    """Examples of fields, by path; of lists and of what is in them there are none."""
    fields = [facts for facts in paths if facts.keys and not {None, "", "*"} & set(facts.keys)][:_MOST_PATHS]
    if not fields:
        return {}
    json_paths = ", ".join(quote_text(f"$.{json_path(facts.keys)}") for facts in fields)
    connection.execute(
        "create or replace temp table example_texts as select unnest(range(1, len(texts) + 1)) as field, unnest(texts) as text "
        f"from (select json_extract_string(payload, [{json_paths}]) as texts from example_events)"
    )
    fits = ", ".join(
        f"coalesce(sum(times) filter (where try_cast(text as {sql}) is not null) "
        "/ sum(times) filter (where try_cast(text as double) is not null), 0)"
        for sql in NUMERIC.values()
    )
    rows = connection.execute(
        "select field, list(text order by times desc, text)[:$shown], max(case when regexp_matches(text, '[eE]') then $unknown "
        "when contains(text, '.') then strlen(rtrim(split_part(text, '.', 2), '0')) else 0 end), "
        f"{fits}, count(*) / sum(times), cast(sum(times) as bigint) "
        "from (select field, text, count(*) as times from example_texts where text is not null group by field, text) group by field",
        {"shown": _SHOWN, "unknown": _UNKNOWN_DECIMALS},
    ).fetchall()
    return {
        fields[number - 1].path: Example(
            tuple(text[:_LONGEST] for text in texts),
            decimals,
            dict(zip(NUMERIC, fitting, strict=True)),
            float(distinct),
            int(events),
        )
        for number, texts, decimals, *fitting, distinct, events in rows
    }


def guess_type_field(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The field that tells types of events apart, by its name and by how few values it has; None if there is none."""
    for name in _TYPE_NAMES:
        path = quote_text(f"$.{name}")
        row = connection.execute(
            f"select count(*), count(*) filter (where json_type(payload, {path}) = 'VARCHAR'), "
            f"count(distinct json_extract_string(payload, {path})) from example_events"
        ).fetchone()
        events, texts, distinct = row or (0, 0, 0)
        few = distinct <= _MOST_TYPES and (events <= _FEW or distinct <= events / 2)
        if events and texts >= _CLEAR * events and few:
            return name
    return None


def guess_event_id(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[PathFacts], known: Mapping[str, Example]
) -> str | None:
    """The field that is the event's id, by its name and by how often its values differ; None if there is none.

    Not all need to differ: a service may deliver an event twice. But a plain `id` under which different events come is that of something else,
    and to take it for theirs would throw all but the first of them away.
    """
    by_name: dict[str, PathFacts] = {}
    for facts in paths:
        if len(facts.keys) == 1 and facts.keys[0] is not None:
            by_name.setdefault(column_name((facts.keys[0],)), facts)
    for name in _ID_NAMES:
        found = by_name.get(name)
        example = None if found is None else known.get(found.path)
        if found is None or example is None or found.share < _CLEAR:
            continue
        if example.distinct_share >= _DISTINCT_IDS and (
            name in _SAYS_SO or _is_one_event_each(connection, found)
        ):
            return found.path
    return None


def _is_one_event_each(connection: duckdb.DuckDBPyConnection, facts: PathFacts) -> bool:
    """Whether events with the same value are the same event, delivered again."""
    path = quote_text(f"$.{json_path(facts.keys)}")
    row = connection.execute(
        f"select count(distinct payload), count(distinct json_extract_string(payload, {path})) from example_events "
        f"where json_extract_string(payload, {path}) is not null"
    ).fetchone()
    return row is not None and row[1] >= _CLEAR * row[0]
