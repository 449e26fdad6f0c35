"""The command `schema`: a stream in, what its payloads say out.

What doesn't live here: how that is found (`event_archive.schema`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from event_archive.cli import render
from event_archive.cli.options import ConfigOption, JsonOption, time_with_zone
from event_archive.config import load_config

if TYPE_CHECKING:
    import datetime as dt

    from event_archive.schema.model import DayFacts, PathFacts, Seen, StreamSchema

DEFAULT_TYPE_FIELD = "event_type"
_MOST_PATHS = 300


def schema(
    stream: Annotated[str, typer.Argument(help="A stream of the configuration.")],
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only events that were archived at this time (ISO 8601, with its zone) or later.",
        ),
    ] = None,
    days: Annotated[bool, typer.Option("--days", help="Show each path day by day too.")] = False,
    type_field: Annotated[
        str,
        typer.Option(
            "--type-field", metavar="PATH", help="What tells types of events apart, if they have it."
        ),
    ] = DEFAULT_TYPE_FIELD,
    time_field: Annotated[
        str | None,
        typer.Option(
            "--time-field",
            metavar="PATH",
            help="The timestamp by which days and changes go; by default days are those of arrival, and changes go by commits.",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="EVENTS", min=1, help="Look at about so many events only."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the payloads of a stream say: every path, its types and how often they occur, since when, and what has changed.

    Paths: a.b for fields, a[] for the elements of a list, a.* for keys that are too many to be names. Shares of types are of the events that
    have the path.
    """
    from event_archive.schema.scan import Asked
    from event_archive.schema.stream import stream_schema

    loaded = load_config(config)
    asked = Asked(
        type_field=type_field,
        time_field=time_field,
        since=None if since is None else time_with_zone(since),
        sample=sample,
    )
    with render.byte_progress(f"reading {stream}", quiet=as_json) as show:
        found = stream_schema(loaded, stream, asked, with_days=days, on_progress=show)
    if as_json:
        render.print_json(as_document(found))
    else:
        print_schema(found)


def as_document(found: StreamSchema) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "stream": found.stream,
        "version": found.version,
        "events": found.events,
        "of_events": found.of_events,
        "json_events": found.json_events,
        "not_json": found.not_json,
        "not_utf8": found.not_utf8,
        "null_values": found.null_values,
        "type_field": found.type_field,
        "types": dict(found.types),
        "paths": [_path_document(facts) for facts in found.paths],
        "days": [_day_document(facts) for facts in found.days],
        "drift": list(found.drift),
        "notes": list(found.notes),
    }


def _path_document(facts: PathFacts) -> dict[str, object]:
    return {
        "path": facts.path,
        "events": facts.events,
        "share": facts.share,
        "format": facts.format,
        "kinds": {
            kind: {"events": events, **_seen_document(facts.kinds_seen[kind])}
            for kind, events in facts.kinds.items()
        },
        **_seen_document(facts.seen),
        "types": dict(facts.types),
    }


def _seen_document(seen: Seen) -> dict[str, object]:
    return {
        "first_commit": seen.first_commit,
        "last_commit": seen.last_commit,
        "first_ingested_at": seen.first_ingested_at.isoformat(),
        "last_ingested_at": seen.last_ingested_at.isoformat(),
        "first_time": seen.first_time and seen.first_time.isoformat(),
        "last_time": seen.last_time and seen.last_time.isoformat(),
    }


def _day_document(facts: DayFacts) -> dict[str, object]:
    return {
        "day": facts.day.isoformat(),
        "path": facts.path,
        "events": facts.events,
        "share": facts.share,
        "kinds": dict(facts.kinds),
    }


def print_schema(found: StreamSchema) -> None:
    """Tables for people."""
    console = Console(soft_wrap=True)
    console.print(_headline(found), highlight=False)
    if found.paths:
        table = render.new_table(
            "path",
            "in events",
            "types of its values",
            "first seen",
            "last seen",
            left=("path", "types of its values"),
        )
        for facts in found.paths[:_MOST_PATHS]:
            if facts.path == "$" and set(facts.kinds) == {"object"}:
                continue
            table.add_row(
                escape(_visible(facts.path)),
                _percent(facts.share),
                kinds_text(facts),
                _place(facts.seen.first_commit, facts.seen.first_ingested_at),
                _place(facts.seen.last_commit, facts.seen.last_ingested_at),
            )
        render.print_table(table)
        if len(found.paths) > _MOST_PATHS:
            console.print(f"… and {len(found.paths) - _MOST_PATHS:,} further paths; --json lists them all.")
    if found.days:
        table = render.new_table(
            "day", "path", "in events", "types of its values", left=("day", "path", "types of its values")
        )
        for day in found.days:
            kinds = ", ".join(f"{kind} {_percent(n / day.events)}" for kind, n in day.kinds.items())
            table.add_row(str(day.day), escape(_visible(day.path)), _percent(day.share), kinds)
        render.print_table(table)
    if found.paths:
        console.print(
            "Drift" if found.drift else "No drift: nothing has appeared, vanished or changed its type."
        )
    for text in found.drift:
        console.print(f"  {escape(_visible(text))}", highlight=False)
    for text in found.notes:
        console.print(f"Note: {escape(_visible(text))}.", highlight=False)


def _headline(found: StreamSchema) -> str:
    if found.events == 0:
        return f"{found.stream}: no events."
    what = (
        f"{found.events:,} events"
        if found.events == found.of_events
        else f"{found.events:,} of {found.of_events:,} events"
    )
    parts = [f"{found.stream}: {what} up to commit {found.version}, {found.json_events:,} are JSON"]
    for count, text in (
        (found.not_json, "are none"),
        (found.not_utf8, "are no UTF-8"),
        (found.null_values, "have no value"),
    ):
        if count:
            parts.append(f"{count:,} {text}")
    lines = ", ".join(parts) + "."
    if found.types:
        shown = list(found.types.items())[:20]
        types = ", ".join(f"{escape(_visible(kind))} {_percent(n / found.json_events)}" for kind, n in shown)
        more = f", … {len(found.types) - len(shown)} more" if len(found.types) > len(shown) else ""
        lines += f"\nTypes of events ({found.type_field}): {types}{more}."
    return lines


def kinds_text(facts: PathFacts) -> str:
    """`number 98 %, string 2 %`."""
    return ", ".join(f"{kind} {_percent(share)}" for kind, share in facts.kind_shares().items())


def _percent(share: float) -> str:
    from event_archive.schema.drift import percent

    return percent(share)


def _place(commit: int, time: dt.datetime) -> str:
    return f"{commit} ({time:%Y-%m-%d %H:%M})"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
