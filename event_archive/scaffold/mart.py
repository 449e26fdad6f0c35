"""Scaffolds a mart: an incremental model over the accepted events of one stream, with its contract and its tests.

What doesn't live here: the columns of its input (`columns_of`), and the macros that make it incremental (dbt_project/macros).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.errors import UsageError
from event_archive.scaffold import project
from event_archive.scaffold.columns_of import Input, staging_view
from event_archive.scaffold.mart_models import Mart, mart_files
from event_archive.scaffold.naming import check_name, keywords
from event_archive.warehouse.kept_digests import RECORDS

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.config import Config

_TIMES = ("occurred_at", "event_time", "happened_at", "timestamp", "time", "ts", "created_at", "at", "at_")
_INTEGERS = ("bigint", "integer")
_COUNTER = re.compile(r"(?:.*_)?(?:sequence|sequence_number|seq|version|revision|counter)")
_ZONED = "timestamp with time zone"


@dataclass(frozen=True, slots=True)
class ScaffoldedMart:
    """What was made of a mart.

    Attributes:
        mart: Its name.
        files: The models.
        notes: What was chosen, in words.
    """

    mart: str
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def scaffold_mart(
    config: Config,
    name: str,
    *,
    stream: str,
    key: tuple[str, ...],
    level: str = "entity",
    order_by: str | None = None,
) -> ScaffoldedMart:
    """Writes a mart over the accepted events of a stream into the dbt project of the configuration.

    Args:
        config: The configuration.
        name: Of the table.
        stream: The stream; it has staging models.
        key: Columns that there is one row per; of level day one column, a date or a time.
        level: entity (the state that a key's events add up to), day (counts and sums of a day), event (a row per event).
        order_by: The column that orders the events of an entity.

    Raises:
        UsageError: A name is none, a column isn't there or can't be the key; nothing was written.
        FilesExist: There is a model of that name already; nothing was written.
    """
    check_name(name, "table")
    if name in RECORDS or name in keywords():
        raise UsageError(
            f"{name!r}: no name of a table, as it is a word of SQL or a table of each build; choose another."
        )
    folder = project.project_folder(config)
    if not (folder / "dbt_project.yml").exists():
        raise UsageError(
            f"{folder}: there is no dbt project yet; `event-archive scaffold stream {stream}` makes it, with the stream's staging models."
        )
    events = staging_view(config, folder, stream)
    _check_key(events, key, level)
    time = _event_time(events)
    notes = []
    if level == "entity":
        order_by = _order(events, key, order_by)
        notes.append(_order_note(order_by, time))
    elif order_by is not None:
        raise UsageError(f"--order-by: tables of level {level} have no use for it.")
    mart = Mart(name=name, events=events, key=key, level=level, time=time, order_by=order_by)
    written = project.write_new(folder, mart_files(mart))
    return ScaffoldedMart(name, tuple(written), tuple(notes))


def _check_key(events: Input, key: tuple[str, ...], level: str) -> None:
    if not key and level != "event":
        raise UsageError("--key: name the column that there is a row per.")
    if level == "day" and len(key) != 1:
        raise UsageError("--key: a table of level day has one key, a date or a time.")
    if level == "event" and key not in ((), ("event_id",)):
        raise UsageError("--key: a table of level event has a row per event_id; leave it out.")
    if len(set(key)) < len(key):
        raise UsageError("--key: a column is named twice.")
    for column in key:
        _check_column(events, column, "--key")
        if level == "day" and events.types[column] not in ("date", _ZONED):
            raise UsageError(
                f"--key: {column} is {events.types[column]}; a table of level day needs a date or a time."
            )


def _check_column(events: Input, column: str, option: str) -> None:
    if column not in events.types:
        raise UsageError(
            f"{option}: {events.model} has no column {column!r}; it has {', '.join(events.types)}."
        )


def _event_time(events: Input) -> str:
    """The column that says when an event happened; when it was archived, if none does."""
    times = [name for name in events.payload_columns if events.types[name] == _ZONED]
    named = [name for name in _TIMES if name in times]
    return (named or times or ["ingested_at"])[0]


def _order(events: Input, key: tuple[str, ...], order_by: str | None) -> str | None:
    """The counter that orders the events of an entity, None if there is none."""
    if order_by is not None:
        _check_column(events, order_by, "--order-by")
        return order_by
    counters = [
        name
        for name in events.payload_columns
        if events.types[name] in _INTEGERS
        and _COUNTER.fullmatch(name)
        and name != "schema_version"
        and name not in key
    ]
    own = [name for name in counters for column in key if name.startswith(column.removesuffix("_id") + "_")]
    return next(iter([*own, *counters]), None)


def _order_note(order_by: str | None, time: str) -> str:
    if order_by is not None:
        return f"Events of a key are ordered by {order_by}; --order-by names another column."
    return f"No column counts the events of a key: they are ordered by {time}. If one does, name it with --order-by."
