"""The commands: arguments in, exit code out (0 done, 1 found a problem, 2 wrong usage or configuration).

Heavy libraries are imported inside the commands that need them: `--help` and `sql` answer at once.
What doesn't live here: what commands do (the library) and how results look (`render`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from event_archive import __version__
from event_archive.cli import (
    builds,
    copying,
    heads,
    recomputing,
    render,
    repairing,
    scaffolding,
    schema,
    upkeep,
    verifying,
)
from event_archive.cli.ended import is_interrupted
from event_archive.cli.options import ConfigOption, JsonOption, Streams, chosen_streams, time_with_zone
from event_archive.config import load_config
from event_archive.errors import EventArchiveError, UsageError

app = typer.Typer(
    name="event-archive",
    help="Keeps raw event streams for ever in an immutable Parquet archive, lets you query, prove and replay them, and computes tables from them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
sources = typer.Typer(
    help="Decide about files and topics that are not any more what was archived of them.",
    no_args_is_help=True,
)
app.add_typer(sources, name="sources")


class SqlFormat(StrEnum):
    """How `sql` prints rows."""

    table = "table"
    csv = "csv"
    json = "json"


class PartitionMapping(StrEnum):
    """Which partition of a topic `replay` writes an event to."""

    same = "same"
    hash = "hash"


def _version(asked: bool) -> None:  # noqa: FBT001 - typer's signature
    if asked:
        typer.echo(f"event-archive {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if it does not exist.")] = Path(),
) -> None:
    """Write a commented event_archive.yaml and make the folders that it names."""
    from event_archive.cli.starter import write_starter

    made = write_starter(folder)
    for path in made:
        typer.echo(f"made {path}")
    typer.echo(f"Next: put event files into {made[-1]}, then run `event-archive ingest`.")


@app.command()
def ingest(
    streams: Streams = None,
    *,
    settled: Annotated[
        bool,
        typer.Option(
            "--settled", help="Take last lines that have no line end now, however young their file is."
        ),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Go on with what comes, until SIGTERM or Ctrl-C ends it with a last commit."
        ),
    ] = False,
    max_latency: Annotated[
        float,
        typer.Option(
            "--max-latency",
            metavar="SECONDS",
            min=1,
            help="With --follow: commit after so long at the latest.",
        ),
    ] = 60.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read everything that the sources have now and commit it to the archive.

    Safe to repeat, to interrupt and to run twice at once: each event is archived exactly once. Exit code 1 if something
    could not be read; everything else is archived all the same.
    """
    from event_archive.cli.following import following, one_after_the_other

    loaded = load_config(config)
    chosen = chosen_streams(loaded, streams)
    with render.ingest_progress(quiet=as_json) as show:
        if follow:
            outcome = following(
                loaded, chosen, max_latency_seconds=max_latency, settled=settled, on_progress=show
            )
        else:
            outcome = one_after_the_other(loaded, chosen, settled=settled, on_progress=show)
    results, failures = outcome.results, outcome.failures
    if as_json:
        render.print_json({"streams": results, "failures": failures})
    else:
        render.print_ingested(results)
    for result in results:
        for text in [*(() if follow else result.warnings), *map(str, result.problems)]:
            render.complain(text)
    for text in failures:
        render.complain(text)
    if failures or any(result.problems for result in results):
        raise typer.Exit(1)


@app.command()
def status(
    streams: Streams = None,
    *,
    gone: Annotated[
        bool, typer.Option("--gone", help="List archived files that have left the landing folder.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each stream holds, and what its source has beyond it."""
    from event_archive.status import stream_status

    loaded = load_config(config)
    statuses = [stream_status(loaded, name) for name in chosen_streams(loaded, streams)]
    if as_json:
        render.print_json({"streams": statuses})
    else:
        render.print_status(statuses, gone=gone)
    if any(status.unreadable for status in statuses):
        raise typer.Exit(1)


@app.command()
def coverage(
    stream: Annotated[str, typer.Argument(help="A stream of the configuration.")],
    *,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="TIME",
            help="Say whether everything up to this time (ISO 8601, with its zone) is archived; exit code 1 if not.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, per partition of the source, which offsets are archived, which are known holes, and which are gone."""
    from event_archive.coverage import complete_until, stream_coverage

    loaded = load_config(config)
    time = None if until is None else time_with_zone(until)
    covered = stream_coverage(loaded, stream)
    answer = None if time is None else complete_until(loaded, covered, time)
    if as_json:
        render.print_json({"coverage": covered, "completeness": answer})
    else:
        render.print_coverage(covered, answer)
    if answer is not None and not answer.is_complete:
        raise typer.Exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over archive.<stream> and the published tables.")],
    *,
    output: Annotated[SqlFormat, typer.Option("--format", help="How rows are printed.")] = SqlFormat.table,
    config: ConfigOption = None,
) -> None:
    """Run read-only SQL over the archive and the published tables."""
    from event_archive.query import run_query

    raise typer.Exit(run_query(load_config(config), query, output.value))


app.command()(verifying.verify)


@app.command()
def replay(
    stream: Annotated[str, typer.Argument(help="A stream of the configuration.")],
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FOLDER|-|URL",
            help="An empty folder, or one to be made; - for stdout; or kafka://host:port[,host:port]/topic.",
        ),
    ],
    envelope: Annotated[
        bool,
        typer.Option(
            "--envelope",
            help="JSON lines with all that is archived of each event, instead of the payloads alone.",
        ),
    ] = False,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME|POSITIONS",
            help="Only events whose own time is this or later (2026-01-31T00:00:00Z), or from these offsets on "
            "(0:1200,3:7 for partitions 0 and 3; the others whole).",
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME|POSITIONS", help="Only events before this time, or these offsets."
        ),
    ] = None,
    all_generations: Annotated[
        bool,
        typer.Option("--all-generations", help="Not only the newest generation of a topic or file."),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="EVENTS", min=0.001, help="No more than so many events a second."),
    ] = None,
    map_partitions: Annotated[
        PartitionMapping,
        typer.Option(
            "--map-partitions",
            help="To a topic: each event into its own partition, or where its key belongs among those that there are.",
        ),
    ] = PartitionMapping.same,
    check: Annotated[
        bool, typer.Option("--check", help="To a topic: read it back and hold it against the archive.")
    ] = False,
    append: Annotated[
        bool,
        typer.Option(
            "--append", help="To a topic: write although it holds events that this replay hasn't written."
        ),
    ] = False,
    zero_timestamp: Annotated[
        int | None,
        typer.Option(
            "--zero-timestamp",
            metavar="MS",
            help="To a topic: write this for a timestamp of 0, which can't be written.",
        ),
    ] = None,
    properties: Annotated[
        Path | None,
        typer.Option(
            "--properties",
            metavar="FILE",
            help="To a topic: how its cluster is reached, as under `properties` of a stream; not needed for the brokers that "
            "the stream comes from.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write archived events back: files byte for byte, JSON lines, or into a Kafka topic, exactly once.

    A stream of files comes back as its files, decompressed, and each one's hash is checked; other streams come back as JSON
    lines, a file per partition. A topic gets the same partition, key, value, headers and timestamp, in order; interrupted
    or repeated, the replay goes on where it ended. Readers of that topic must leave out aborted transactions
    (isolation.level=read_committed). Exit code 1 if what was checked differs.
    """
    from event_archive.cli.replaying import Asked, run_replay

    asked = Asked(
        to=to,
        envelope=envelope,
        begin=begin,
        end=end,
        all_generations=all_generations,
        rate=rate,
        map_partitions=map_partitions.value,
        check=check,
        append=append,
        zero_timestamp=zero_timestamp,
        properties=properties,
        as_json=as_json,
    )
    raise typer.Exit(run_replay(load_config(config), stream, asked))


app.command()(recomputing.refresh)
app.command()(recomputing.rebuild)
app.command()(builds.builds)
app.command()(builds.rollback)
app.command()(builds.publish)
app.command()(builds.diff)
app.command()(copying.copy)
app.command()(heads.head)
app.command()(repairing.repair)
app.add_typer(scaffolding.scaffold, name="scaffold")
app.command()(schema.schema)
app.command()(upkeep.compact)
app.command()(upkeep.clean)


@sources.command("accept")
def accept(
    name: Annotated[
        str,
        typer.Argument(
            metavar="FILE|STREAM", help="A file in a landing folder, or a stream whose source is a topic."
        ),
    ],
    *,
    partition: Annotated[
        int | None,
        typer.Option("--partition", metavar="N", help="The partition of the topic that has lost events."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Accept a file, or a topic, as it is now.

    A file that has changed since it was archived is archived whole as a new generation, beside what the archive has of
    the old one; so is a topic that was made anew, or a partition that has fewer or other events than the archive. A
    damaged or cut compressed file, of which the whole lines are archived, is no problem any more.
    """
    from event_archive.accept import accept_source

    result = accept_source(load_config(config), name, partition=partition)
    render.print_ingested([result])
    for text in [*result.warnings, *map(str, result.problems)]:
        render.complain(text)
    if result.problems:
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; errors of ours are one sentence on stderr."""
    try:
        app()
    except EventArchiveError as error:
        render.complain(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except RuntimeError as error:
        if not is_interrupted(error):
            raise
        render.complain("Aborted!")
        sys.exit(128 + signal.SIGINT)
    except OSError as error:  # the library turns its own into sentences: what is left is our output
        with contextlib.suppress(OSError):
            render.complain(f"The output can't be written ({error.strerror}).")
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python complains once more at its end
        sys.exit(1)
