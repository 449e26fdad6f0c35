"""The command `repair`: a stream and where good bytes may come from in, a row per damaged file out.

What doesn't live here: repairing (`event_archive.repair`).
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from event_archive.cli import render
from event_archive.cli.options import ConfigOption, JsonOption  # noqa: TC001 - likewise
from event_archive.config import load_config
from event_archive.errors import UsageError

if TYPE_CHECKING:
    from event_archive.repair.stream import RepairReport


def repair(
    stream: Annotated[str, typer.Argument(help="A stream of the configuration.")],
    *,
    other: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="ARCHIVE", help="A copy of the archive: a folder, or s3://bucket/prefix."
        ),
    ] = None,
    from_source: Annotated[
        bool,
        typer.Option("--from-source", help="Read the same offsets of the stream's source again."),
    ] = False,
    head: Annotated[
        Path | None,
        typer.Option(
            "--head",
            metavar="FILE",
            help="Heads that `event-archive head --json` printed, or that `heads` recorded: they tell what the newest entries were.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back damaged or missing files of an archive, byte for byte.

    Only bytes with the hash that the log says are put anywhere, and what is whole is never touched. Don't ingest meanwhile.
    Exit code 1 if something could not be repaired, or with --dry-run if there is anything to repair.
    """
    from event_archive.heads.head import read_head_file
    from event_archive.heads.recorded import recorded_heads
    from event_archive.repair.source import SourceFiles
    from event_archive.repair.stream import repair_stream
    from event_archive.storage.opening import open_store

    if other is None and not from_source:
        raise UsageError("Name where the good bytes come from: --from ARCHIVE, or --from-source.")
    loaded = load_config(config)
    loaded.stream(stream)
    if head is not None:
        documents = read_head_file(head)
        heads = [document.streams[stream] for document in documents if stream in document.streams]
        if not heads:
            raise UsageError(f"{head}: has no head of {stream}.")
    else:
        heads = recorded_heads(loaded, stream, render.complain)
    with render.byte_progress(f"reading {stream}", quiet=as_json) as show:
        report = repair_stream(
            loaded.table(stream),
            other=None if other is None else open_store(other, loaded.storage).child(stream),
            source=SourceFiles(loaded, stream) if from_source else None,
            heads=heads,
            dry_run=dry_run,
            on_progress=show,
        )
    if as_json:
        render.print_json({"repair": report, "is_whole": report.is_whole})
    else:
        _print(report)
    if not report.is_whole:
        raise typer.Exit(1)


def _print(report: RepairReport) -> None:
    from event_archive.repair.stream import NOT_REPAIRED

    console = Console()
    console.print(
        f"{report.stream}: the log up to version {report.version} and {report.files:,} data files "
        f"({render.human_bytes(report.bytes_read)}) were read, {report.seconds:.2f} s."
    )
    for item in report.items:
        if item.outcome != NOT_REPAIRED:
            console.print(escape(ascii(str(item))[1:-1]), soft_wrap=True)
    for item in report.items:
        if item.outcome == NOT_REPAIRED:
            render.complain(f"{report.stream}: {item}")
    if not report.items:
        console.print("Nothing is damaged or missing.")
