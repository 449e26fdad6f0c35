"""The text of a scaffolded mart: SQL and description, by its level.

What doesn't live here: choosing its columns (`mart`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from event_archive.scaffold.naming import column_name, free_name
from event_archive.scaffold.text import yaml_string

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.scaffold.columns_of import Input

_POSITION = ("source_id", "source_partition", "source_offset")
_SUMMED = ("decimal(18,2)", "decimal(38,9)")
_MOST_TYPES = 30


@dataclass(frozen=True, slots=True)
class Mart:
    """What a mart is made of.

    Attributes:
        name: Of the table.
        events: The staging view that it reads.
        key: Columns that there is one row per.
        level: entity, day or event.
        time: The column of when events happened.
        order_by: The column that orders an entity's events; None: their time.
    """

    name: str
    events: Input
    key: tuple[str, ...]
    level: str
    time: str
    order_by: str | None


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    sql: str
    data_type: str
    description: str
    tests: tuple[str, ...] = ()


def mart_files(mart: Mart) -> dict[str, str]:
    """The files of a mart, by their path in the dbt project."""
    folder = f"models/marts/{mart.events.domain}"
    if mart.level == "event":
        columns = _event_columns(mart)
        return {
            f"{folder}/{mart.name}.sql": _event_sql(mart, columns),
            f"{folder}/{mart.name}.yml": _yml(mart, columns, ["event_id"]),
        }
    if mart.level == "entity":
        columns = _entity_columns(mart)
        return {
            f"{folder}/{mart.name}.sql": _entity_sql(mart, columns),
            f"{folder}/{mart.name}.yml": _yml(mart, columns, list(mart.key)),
        }
    day = _day(mart)
    columns = _day_columns(mart, day)
    files = {
        f"{folder}/{mart.name}.sql": _day_sql(mart, columns, day),
        f"{folder}/{mart.name}.yml": _yml(mart, columns, [day]),
    }
    if day not in mart.events.types:
        between = f"models/intermediate/{mart.events.domain}/{_days_model(mart)}"
        files = {f"{between}.sql": _days_sql(mart, day), f"{between}.yml": _days_yml(mart, day), **files}
    return files


def _day(mart: Mart) -> str:
    """The column of the day: the key itself, or one that is made of it."""
    key = mart.key[0]
    if mart.events.types[key] == "date":
        return key
    return free_name(f"{key.removesuffix('_at').rstrip('_')}_date", mart.events.types)


def _each_once(columns: Iterable[_Column]) -> list[_Column]:
    """The columns, each with a name of its own: of the same names all but the first get a number."""
    found: dict[str, _Column] = {}
    for column in columns:
        name = free_name(column.name, found)
        found[name] = replace(column, name=name)
    return list(found.values())


def _days_model(mart: Mart) -> str:
    return f"int_{mart.events.domain}__{mart.name}_events"


def _counts(mart: Mart) -> list[_Column]:
    """How many events, and how many of each type."""
    columns = [_Column("events", "count(*)", "bigint", "How many events.", ("not_null",))]
    for value in mart.events.event_types[:_MOST_TYPES]:
        literal = value.replace("'", "''")
        columns.append(
            _Column(
                f"{column_name((value,))}_events",
                f"count(*) filter (where event_type = '{literal}')",
                "bigint",
                f"How many of them are {value}.",
            )
        )
    return columns


def _times(mart: Mart) -> list[_Column]:
    what = "archived" if mart.time == "ingested_at" else "event"
    when = f"by {mart.time}"
    kind = mart.events.types[mart.time]
    return [
        _Column(f"first_{what}_at", f"min({mart.time})", kind, f"Its earliest event, {when}."),
        _Column(f"last_{what}_at", f"max({mart.time})", kind, f"Its latest event, {when}."),
    ]


def _entity_columns(mart: Mart) -> list[_Column]:
    keys = [_key_column(mart, name) for name in mart.key]
    left_out = {*mart.key, "event_id", "event_type", "schema_version", mart.order_by, mart.time}
    left_out |= {name for name in mart.events.types if name.endswith("_utc_offset")}
    number = _event_number(mart)
    last = [
        _Column(
            f"last_{name}",
            f"arg_max({name}, {number})",
            mart.events.types[name],
            f"TODO: what it means. The newest {name} that an event gives.",
        )
        for name in mart.events.payload_columns
        if name not in left_out
    ]
    return _each_once([*keys, *_times(mart), *_counts(mart), *last])


def _event_number(mart: Mart) -> str:
    """What the number of an event of its entity is called: not as one of the events' own columns, which would be taken for it."""
    return free_name("event_number", mart.events.types)


def _key_column(mart: Mart, name: str) -> _Column:
    tests = ("unique", "not_null") if len(mart.key) == 1 else ("not_null",)
    return _Column(name, name, mart.events.types[name], "TODO: what it is.", tests)


def _entity_sql(mart: Mart, columns: list[_Column]) -> str:
    keys = ", ".join(mart.key)
    if mart.order_by is not None:
        order = f"{mart.order_by}, event_id"
        comment = [f"        -- {mart.order_by} is the order of the events; event_id only makes it complete"]
    else:
        order = ", ".join([mart.time, *_POSITION])
        comment = [
            "        -- By their time, as nothing counts these events. Arrival is no order: events come late and out of order, and would be ordered",
            "        -- anew by each replay. Clocks differ too: two servers' times of one entity are only as good as their clocks. Events of the same",
            "        -- time are ordered by their position at the source, so that each build orders them alike.",
        ]
    return _file(
        [
            _config(mart, mart.key),
            "",
            "with events as (",
            f"    select * from {{{{ history('{mart.events.model}') }}}}",
            f"    where {' and '.join(f'{name} is not null' for name in mart.key)}",
            "),",
            "",
            "numbered as (",
            "    select",
            "        *,",
            *comment,
            f"        row_number() over (partition by {keys} order by {order}) as {_event_number(mart)}",
            "    from events",
            "),",
            "",
            "final as (",
            "    select",
            *_select(columns),
            "    from numbered",
            f"    group by {keys}",
            ")",
            "",
            "select * from final",
        ]
    )


def _day_columns(mart: Mart, day: str) -> list[_Column]:
    sums = [
        _Column(
            f"total_{name}",
            f"cast(sum({name}) as decimal(38, {kind.rstrip(')').split(',')[1].strip()}))",
            f"decimal(38,{kind.rstrip(')').split(',')[1].strip()})",
            f"TODO: what it means. The sum of {name}.",
        )
        for name, kind in mart.events.types.items()
        if kind.replace(" ", "") in _SUMMED
    ]
    key = _Column(day, day, "date", "Day (UTC)." if day != mart.key[0] else "Day.", ("unique", "not_null"))
    return _each_once([key, *_counts(mart), *sums])


def _day_sql(mart: Mart, columns: list[_Column], day: str) -> str:
    source = mart.events.model if day in mart.events.types else _days_model(mart)
    return _file(
        [
            _config(mart, [day]),
            "",
            "with events as (",
            f"    select * from {{{{ history('{source}') }}}}",
            f"    where {day} is not null",
            "),",
            "",
            "final as (",
            "    select",
            *_select(columns),
            "    from events",
            f"    group by {day}",
            ")",
            "",
            "select * from final",
        ]
    )


def _days_sql(mart: Mart, day: str) -> str:
    return _file(
        [
            "{{ config(materialized='view') }}",
            "",
            f"{{#- What {mart.name} is made of: a table of level day needs the day as a column of what it reads. -#}}",
            "select",
            "    *,",
            f"    cast({mart.key[0]} at time zone 'UTC' as date) as {day}",
            f"from {{{{ ref('{mart.events.model}') }}}}",
        ]
    )


def _days_yml(mart: Mart, day: str) -> str:
    columns = [_Column(day, "", "date", f"Day (UTC) of {mart.key[0]}.")]
    text = f"The events of {mart.events.model} with their day, for {mart.name}, one row per event."
    return _file(
        [
            "models:",
            f"  - name: {_days_model(mart)}",
            f"    description: {yaml_string(text)}",
            "    columns:",
            *_described(columns),
        ]
    )


def _event_columns(mart: Mart) -> list[_Column]:
    known = {
        "event_id": ("The event's id.", ("unique", "not_null")),
        "commit_version": ("Archive commit that brought the event.", ("not_null",)),
    }
    return [
        _Column(name, name, kind, *known.get(name, ("TODO: what it means.", ())))
        for name, kind in mart.events.types.items()
        if name in known or name in mart.events.payload_columns
    ]


def _event_sql(mart: Mart, columns: list[_Column]) -> str:
    return _file(
        [
            _config(mart, []),
            "",
            "select",
            *[line.removeprefix("    ") for line in _select(columns)],
            f"from {{{{ history('{mart.events.model}') }}}}",
        ]
    )


def _config(mart: Mart, key: Iterable[str]) -> str:
    names = [f"'{name}'" for name in key]
    if not names:
        unique_key = ""
    elif len(names) == 1:
        unique_key = f" unique_key={names[0]},"
    else:
        unique_key = f" unique_key=[{', '.join(names)}],"
    return f"{{{{ config(materialized='incremental',{unique_key} meta={{'level': '{mart.level}'}}) }}}}"


def _select(columns: list[_Column]) -> list[str]:
    lines = [
        f"        {column.sql}," if column.sql == column.name else f"        {column.sql} as {column.name},"
        for column in columns
    ]
    return [*lines[:-1], lines[-1].rstrip(",")]


def _yml(mart: Mart, columns: list[_Column], grain: list[str]) -> str:
    what = {
        "entity": "the state that its events add up to",
        "day": "what happened on a day",
        "event": "what happened",
    }[mart.level]
    text = f"TODO: what this table says ({what}), one row per {' and '.join(grain)}."
    lines = ["models:", f"  - name: {mart.name}", f"    description: {yaml_string(text)}"]
    if len(grain) > 1:
        lines += [
            "    data_tests:",
            "      - unique_combination:",
            "          arguments:",
            f"            columns: [{', '.join(grain)}]",
        ]
    return _file([*lines, "    columns:", *_described(columns)])


def _described(columns: list[_Column]) -> list[str]:
    lines = []
    for column in columns:
        lines += [
            f"      - name: {column.name}",
            f"        description: {yaml_string(column.description)}",
            f"        data_type: {column.data_type}",
        ]
        if column.tests:
            lines += ["        data_tests:", *[f"          - {test}" for test in column.tests]]
    return lines


def _file(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
