"""The command `verify`: what to prove and how closely in, proofs or damages out.

What doesn't live here: proving (`event_archive.verify`), and heads (`event_archive.heads`).
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from event_archive.cli import render
from event_archive.cli.options import ConfigOption, JsonOption, Streams, chosen_streams
from event_archive.config import load_config
from event_archive.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from event_archive.config import Config
    from event_archive.heads.head import HeadDocument
    from event_archive.verify import Scope, VerifyReport


def verify(
    streams: Streams = None,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="COMMIT|TIME",
            help="Read only files that commits after this one, or after this time (ISO 8601, with its zone), brought.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Read no data file: the log, and the files' existence and sizes.")
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option("--sample", metavar="SHARE", help="Read files with about this share of the bytes: 5%."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Draw the sample that this seed gave before."),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Decode every column too, and compute the row digests anew: slower."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Don't read again what an interrupted verify proved in the last days."),
    ] = False,
    head: Annotated[
        Path | None,
        typer.Option(
            "--head",
            metavar="FILE",
            help="Prove that the archive still contains the heads that `event-archive head --json` wrote there.",
        ),
    ] = None,
    recorded_heads: Annotated[
        bool,
        typer.Option(
            "--heads/--no-heads", help="Compare with the heads recorded in the places under `heads`, if any."
        ),
    ] = True,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove the archive whole: every byte is read and held against the log, and the log against itself.

    Exit code 1 names each damaged file, and what is affected; or a stream that was to be compared with a head has none in the FILE. The log is always proved from its first entry on; the options
    choose which data files are read.
    """
    from event_archive.heads.head import read_head_file
    from event_archive.verify import verify_stream

    scope = _scope(since, sample, seed, quick=quick, deep=deep)
    if quick and resume:
        raise UsageError("--quick reads no file, so there is nothing to resume.")
    loaded = load_config(config)
    chosen = chosen_streams(loaded, streams)
    kept = [] if head is None else read_head_file(head)
    reports = []
    for name in chosen:
        with render.byte_progress(f"verifying {name}", quiet=as_json) as show:
            report = verify_stream(loaded, name, on_progress=show, scope=scope, resume=resume)
        faults = _head_faults(loaded, name, kept, recorded=recorded_heads)
        reports.append(report.with_heads(loaded.table(name), faults))
    without_head = [] if head is None else _streams_without_head(chosen, kept)
    is_compared = not without_head or (not streams and len(without_head) < len(chosen))
    if as_json:
        is_whole = all(report.is_whole for report in reports)
        render.print_json({"streams": reports, "is_whole": is_whole, "without_head": without_head})
    else:
        _print(reports)
    for name in without_head:
        render.complain(f"{name}: {head} holds no head of this stream, so it was not compared with one.")
    if not is_compared or not all(report.is_whole for report in reports):
        raise typer.Exit(1)


def _streams_without_head(streams: Sequence[str], kept: Sequence[HeadDocument]) -> list[str]:
    """Those of the streams that no document has a head of: one of an empty stream is one, too."""
    return [name for name in streams if not any(name in document.streams for document in kept)]


def _scope(since: str | None, sample: str | None, seed: int | None, *, quick: bool, deep: bool) -> Scope:
    from event_archive.verify import Scope, parse_share, parse_since

    if quick and (since is not None or sample is not None or deep):
        raise UsageError("--quick reads no data file: leave out --since, --sample and --deep.")
    if seed is not None and sample is None:
        raise UsageError("--seed belongs to --sample.")
    return Scope(
        since=None if since is None else parse_since(since),
        is_quick=quick,
        is_deep=deep,
        sample=None if sample is None else parse_share(sample),
        seed=seed,
    )


def _head_faults(config: Config, stream: str, kept: Sequence[HeadDocument], *, recorded: bool) -> list[str]:
    """What is wrong about heads that were kept elsewhere: from a file that was named, and from the places under `heads`."""
    from event_archive.heads.head import contains_heads
    from event_archive.heads.recorded import recorded_faults

    heads = [document.streams[stream] for document in kept if stream in document.streams]
    faults = [fault for fault in contains_heads(config.table(stream), heads) if fault] if heads else []
    return [*faults, *recorded_faults(config, stream)] if recorded else faults


def _print(reports: Sequence[VerifyReport]) -> None:
    """What was proved, for people."""
    table = render.new_table(
        "stream", "version", "commits", "files", "events", "read", "result", left=("stream", "result")
    )
    for report in reports:
        table.add_row(
            report.stream,
            str(report.version) if report.commits else "-",
            f"{report.commits:,}",
            f"{report.files:,}",
            f"{report.events:,}",
            render.human_bytes(report.bytes_read),
            ("[green]whole[/]" if report.commits else "empty")
            if report.is_whole
            else f"[red]{len(report.damages)} damaged[/]",
        )
    render.print_table(table)
    console = Console()
    for report in reports:
        for text in _remarks(report):
            console.print(f"{report.stream}: {escape(text)}", soft_wrap=True)
        for damage in report.damages:
            render.complain(f"{report.stream}: {damage}")


def _remarks(report: VerifyReport) -> list[str]:
    """What isn't told by the table."""
    remarks = []
    if report.scope != "all":
        remarks.append(f"read: {report.scope} ({report.files_read:,} of {report.files:,} files).")
    if report.files_proved_before:
        remarks.append(
            f"{report.files_proved_before:,} files were not read again: an interrupted verify proved them less than 7 days ago, "
            "and their size and time are the same."
        )
    if report.digests_compared or report.digests_missing:
        missing = report.digests_missing
        remarks.append(
            f"{report.digests_compared:,} row digests are as recorded"
            + (
                f"; {missing:,} stretches of events have none, from before there were any."
                if missing
                else "."
            )
        )
    if report.replaced:
        remarks.append(
            f"{len(report.replaced):,} files are still there that compaction has replaced: harmless."
        )
    if report.unreferenced:
        remarks.append(
            f"{len(report.unreferenced)} files belong to no commit, as an interrupted write leaves them: harmless."
        )
    return [*remarks, *report.notes]
