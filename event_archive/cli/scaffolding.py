"""The commands `scaffold stream` and `scaffold mart`: names in, files and what to do next out.

What doesn't live here: what is written (`event_archive.scaffold`).
"""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from event_archive.cli import render
from event_archive.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from event_archive.config import load_config
from event_archive.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.scaffold.stream import ScaffoldedStream

scaffold = typer.Typer(
    help="Write the first version of what a new stream or a new table needs, into the dbt project of the configuration.",
    no_args_is_help=True,
)


class Level(StrEnum):
    """What the rows of a mart are."""

    entity = "entity"
    day = "day"
    event = "event"


@scaffold.command("stream")
def stream(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The stream.")],
    *,
    sample: Annotated[
        Path | None,
        typer.Option(
            "--sample",
            metavar="FILE",
            help="A file with an event a line, also .gz or .zst, for a stream that has nothing archived yet.",
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain",
            metavar="NAME",
            help="What it is about: part of the models' names; by default the stream.",
        ),
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(
            "--event-id",
            metavar="PATH",
            help="Where each event has its id; by default a field of such a name whose values differ.",
        ),
    ] = None,
    type_field: Annotated[
        str | None,
        typer.Option(
            "--type-field",
            metavar="PATH",
            help="What tells types of events apart; by default a field of such a name with few values.",
        ),
    ] = None,
    landing: Annotated[
        str | None,
        typer.Option(
            "--landing",
            metavar="FOLDER",
            help="Where the files of a new stream land; by default data/landing/NAME.",
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write/--no-write",
            help="Add a new stream to the configuration, or only say which lines to add.",
        ),
    ] = True,
    config: ConfigOption = None,
) -> None:
    """Write staging models for a stream, with columns and types as its events have them.

    From the archived events, or from a sample of them. Nothing is ever overwritten; descriptions are left to fill in, beside what was observed. Makes a
    dbt project beside the configuration if there is none, and adds a new stream to the configuration.
    """
    from event_archive.scaffold.configuration import add_stream, plan_addition, stream_lines
    from event_archive.scaffold.stream import scaffold_stream

    loaded = load_config(config)
    is_new = sample is not None and name not in loaded.streams
    folder = landing or f"data/landing/{name}"
    if landing is not None and not is_new:
        raise UsageError(f"--landing: {name} is configured already, and with it where its events come from.")
    # Asked before anything is written: a configuration that can't be added to leaves nothing half done.
    addition = plan_addition(loaded.path, name, folder) if is_new and write else None
    with render.byte_progress(f"reading {name}", quiet=False) as show:
        made = scaffold_stream(
            loaded,
            name,
            sample=sample,
            domain=domain,
            event_id=event_id,
            type_field=type_field,
            on_progress=show,
        )
    _say_files([*made.made_project, *made.files])
    _say_stream(made)
    if addition is not None:
        add_stream(addition)
        typer.echo(f"\nAdded to {loaded.path}:\n\n" + "\n".join(addition.lines))
    elif is_new:
        lines = "\n".join(stream_lines(name, folder))
        typer.echo(f"\nAdd this to {loaded.path}, under `streams:`:\n\n{lines}")
    typer.echo("\nDescriptions marked TODO are yours to fill in.")
    if addition is not None:
        before = (
            f"put event files into {_short(addition.landing)}, then run {_command('ingest', config)}, then "
        )
    elif is_new:
        before = (
            f"add those lines, put event files into {folder}, then run {_command('ingest', config)}, then "
        )
    else:
        before = "run " if sample is None else f"run {_command('ingest', config)}, then "
    typer.echo(
        f"Next: {before}{_command('refresh', config)}; then a table of your own: "
        f"{_command(f'scaffold mart NAME --stream {name} --key COLUMN', config)}."
    )


@scaffold.command("mart")
def mart(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The table.")],
    *,
    from_stream: Annotated[
        str,
        typer.Option(
            "--stream", metavar="STREAM", help="Of which stream's events it is made; it has staging models."
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="COLUMN",
            help="What there is a row per; several times for several columns. Of level day: the time or date.",
        ),
    ] = None,
    level: Annotated[
        Level, typer.Option("--level", help="What its rows are: an entity's state, a day, or events.")
    ] = Level.entity,
    order_by: Annotated[
        str | None,
        typer.Option(
            "--order-by",
            metavar="COLUMN",
            help="What the order of an entity's events is; by default its counter if there is one, else their time.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a table of your own over the events of a stream: incremental, described, tested, and running at once."""
    from event_archive.scaffold.mart import scaffold_mart

    made = scaffold_mart(
        load_config(config),
        name,
        stream=from_stream,
        key=tuple(key or ()),
        level=level.value,
        order_by=order_by,
    )
    _say_files(made.files)
    for text in made.notes:
        typer.echo(text)
    typer.echo("\nDescriptions marked TODO are yours to fill in.")
    query = f'sql "select * from {name} limit 5"'
    typer.echo(f"Next: run {_command('refresh', config)}, then {_command(query, config)}.")


def _command(arguments: str, config: Path | None) -> str:
    """A command as it is to be typed next."""
    named = "" if config is None else f" --config {shlex.quote(str(config))}"
    return f"`event-archive {arguments}{named}`"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say_files(files: Iterable[Path]) -> None:
    for path in files:
        typer.echo(f"made {_short(path)}")


def _say_stream(made: ScaffoldedStream) -> None:
    columns = made.columns
    typer.echo(f"\n{made.model}: {len(columns.fields)} columns from {made.schema.events:,} events.")
    if columns.event_types:
        typer.echo(f"Types of events ({made.schema.type_field}): {', '.join(columns.event_types)}.")
    if made.event_id is None:
        typer.echo(
            "No field is the events' id: each archived event counts, and redeliveries can't be told. If one is, name it with --event-id "
            f"(after removing {shlex.quote(str(made.files[0].parent))})."
        )
    else:
        typer.echo(f"Redeliveries are told by {made.event_id}.")
    for text in columns.partly_rejected[:20]:
        typer.echo(f"Events will be rejected, with the reason, for {text}.")
    for text in columns.left_out[:20]:
        render.complain(f"no column for {text}")
