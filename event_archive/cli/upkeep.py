"""The commands that keep an archive small and quick, `compact` and `clean`: streams in, what was done out.

What doesn't live here: what they do (`event_archive.compaction.days`, `event_archive.clean`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
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

    from event_archive.clean import CleanResult
    from event_archive.compaction.days import CompactResult

_LISTED = 20


def compact(
    streams: Streams = None,
    *,
    target_bytes: Annotated[
        str,
        typer.Option("--target-bytes", metavar="SIZE", help="How large files should become, about."),
    ] = "384 MB",
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="DATE",
            help="The last date of arrival to take, be it over or not; by default the last one that ended over an hour ago (UTC).",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the small files of each day that is over into few large ones.

    Safe beside ingests and readers, to interrupt and to repeat. What was written is read back and proved by the row digests of the original
    commits before it counts; files that were replaced stay for `keep_replaced`, until `clean` removes them. Old log entries are sealed. Exit
    code 1 if something could not be merged.
    """
    from event_archive.compaction.days import compact_stream

    loaded = load_config(config)
    size, last = _size(target_bytes), _date(until)
    results = []
    for name in chosen_streams(loaded, streams):
        with render.byte_progress(f"compacting {name}", quiet=as_json) as show:
            results.append(compact_stream(loaded, name, target_bytes=size, until=last, on_progress=show))
    if as_json:
        render.print_json({"streams": results})
    else:
        _print_compacted(results)
    for result in results:
        for text in result.problems:
            render.complain(f"{result.stream}: {text}")
    if any(result.problems for result in results):
        raise typer.Exit(1)


def clean(
    streams: Streams = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; list what would be removed.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove files that the archive has no use for any more, and nothing else.

    These are: what was never committed and is older than a day, as an interrupted write leaves it; files that compaction replaced longer ago
    than `keep_replaced`; log entries that are sealed. Nothing is removed while the log is damaged. Exit code 1 if something is damaged.
    """
    from event_archive.clean import clean_stream

    loaded = load_config(config)
    results = []
    for name in chosen_streams(loaded, streams):
        with render.byte_progress(f"cleaning {name}", quiet=as_json) as show:
            results.append(clean_stream(loaded, name, dry_run=dry_run, on_progress=show))
    if as_json:
        render.print_json({"streams": results})
    else:
        _print_cleaned(results)
    for result in results:
        for text in result.problems:
            render.complain(f"{result.stream}: {text}")
    if any(result.problems for result in results):
        raise typer.Exit(1)


def _print_compacted(results: Sequence[CompactResult]) -> None:
    table = render.new_table(
        "stream", "date", "files", "become", "bytes", "are", "events", left=("stream", "date")
    )
    done = [(result.stream, item) for result in results for item in result.compacted]
    for stream, item in done[-_LISTED:]:
        table.add_row(
            stream,
            item.ingest_date,
            f"{item.files_before:,}",
            f"{item.files_after:,}",
            render.human_bytes(item.bytes_before),
            render.human_bytes(item.bytes_after),
            f"{item.events:,}",
        )
    console = Console()
    if done:
        render.print_table(table)
    if len(done) > _LISTED:
        console.print(f"{len(done) - _LISTED:,} more were done before these; --json lists them all.")
    for result in results:
        for date in result.given_up:
            console.print(f"{result.stream}: another compaction was faster with {date}.")
        if result.is_sealed:
            console.print(f"{result.stream}: old log entries were sealed.")
    if not done:
        console.print("Nothing to merge.")


def _print_cleaned(results: Sequence[CleanResult]) -> None:
    console = Console()
    for result in results:
        word = "would be removed" if result.is_dry_run else "removed"
        counts = Counter(file.reason for file in result.removed)
        sizes: Counter[str] = Counter()
        for file in result.removed:
            sizes[file.reason] += file.size_bytes
            if result.is_dry_run:
                console.print(escape(f"{file.name}  ({file.reason})"), soft_wrap=True, highlight=False)
        for reason, count in sorted(counts.items()):
            console.print(
                f"{result.stream}: {word}: {count:,} files, {render.human_bytes(sizes[reason])}: {reason}."
            )
        if not result.removed:
            console.print(f"{result.stream}: nothing to remove.")
        if result.replaced_files:
            console.print(
                f"{result.stream}: {result.replaced_files:,} files, {render.human_bytes(result.replaced_bytes)}, were replaced not long ago "
                "and stay for now.",
                soft_wrap=True,
            )
        for name in result.foreign[:_LISTED]:
            console.print(
                f"{result.stream}: not ours, left alone: {escape(ascii(name)[1:-1])}", soft_wrap=True
            )
        if len(result.foreign) > _LISTED:
            console.print(f"{result.stream}: and {len(result.foreign) - _LISTED:,} more that are not ours.")


def _size(text: str) -> int:
    from pydantic import TypeAdapter, ValidationError

    from event_archive.source_config import Bytes

    try:
        size = TypeAdapter(Bytes).validate_python(text)
    except ValidationError:
        size = 0
    if size <= 0:
        raise UsageError(f"--target-bytes {text}: write a size like 402653184 or 384 MB.")
    return size


def _date(text: str | None) -> dt.date | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--until {text}: write a date, for example 2026-01-31.") from None
