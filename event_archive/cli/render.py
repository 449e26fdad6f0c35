"""Results as tables for people, and as JSON for programs.

What doesn't live here: how results come about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from event_archive.coverage import Completeness, Coverage
    from event_archive.ingest import IngestResult, Progress
    from event_archive.replay.check import PartitionCheck
    from event_archive.replay.folder import ReplayedFile
    from event_archive.replay.lines import LinesReplay
    from event_archive.replay.topic import TopicReplay
    from event_archive.sources.source_status import Lag
    from event_archive.status import StreamStatus

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND = 1000
_LISTED = 20
_FEW = 3
_WIDEST = 1000


def print_json(value: Any) -> None:
    """One JSON document on stdout; dataclasses become objects."""
    json.dump(value, sys.stdout, default=_plain, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"no JSON for {type(value).__name__}")


def complain(text: str) -> None:
    """A sentence on stderr, with nothing in it that a terminal would obey."""
    visible = "".join(c if c == "\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    sys.stderr.write(visible.encode("utf-8", "backslashreplace").decode() + "\n")


def human_bytes(count: float) -> str:
    """`1.5 MB`."""
    for unit in _UNITS:
        if count < _THOUSAND or unit == _UNITS[-1]:
            break
        count /= _THOUSAND
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def new_table(*columns: str, left: Sequence[str] = ("stream",)) -> Table:
    """An empty table; columns are numbers but for those in `left`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Prints a table as wide as it needs: a figure that is cut off is worse than a line that wraps."""
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    Console(width=max(console.width, needed)).print(table)


def print_ingested(results: Sequence[IngestResult]) -> None:
    """What an ingest did."""
    table = new_table("stream", "events", "bytes", "commits", "seconds")
    for result in results:
        table.add_row(
            result.stream,
            f"{result.events:,}",
            human_bytes(result.bytes),
            str(result.commits),
            f"{result.seconds:.2f}",
        )
    print_table(table)
    if not any(result.events for result in results):
        Console().print("Nothing new.")


def print_status(statuses: Sequence[StreamStatus], *, gone: bool) -> None:
    """What each stream holds."""
    table = new_table(
        "stream", "events", "values", "stored", "commits", "sources", "newest commit", "waiting"
    )
    for status in statuses:
        table.add_row(
            status.stream,
            f"{status.events:,}",
            human_bytes(status.bytes),
            human_bytes(status.stored_bytes),
            f"{status.commits:,}",
            f"{len(status.positions):,}",
            (status.last_ingested_at or "-").replace("T", " ")[:16],
            _waiting(status.lag),
        )
    print_table(table)
    console = Console()
    for status in statuses:
        if status.last_event_time:
            console.print(
                f"{status.stream}: event times {status.first_event_time} to {status.last_event_time}"
            )
        if status.gone and not gone:
            console.print(
                f"{status.stream}: {len(status.gone):,} archived files are gone from the landing folder, which is fine "
                "(--gone lists them)."
            )
        for path in status.gone if gone else ():
            console.print(escape(f"gone: {status.stream}: {path!r}"), soft_wrap=True)
        for gap in status.gaps:
            complain(f"{status.stream}: {gap}")
        for note in status.notes:
            complain(f"{status.stream}: {note}")
        for problem in status.unreadable:
            complain(f"{status.stream}: {problem}")


def _waiting(lag: Lag) -> str:
    if lag.events is not None:
        return f"{lag.events:,} events" if lag.events else "-"
    return f"{lag.files:,} files" if lag.files else "-"


def print_coverage(coverage: Coverage, answer: Completeness | None) -> None:
    """What is archived of each partition of a stream's source."""
    table = new_table("source", "events", "archived offsets", "known holes", "gaps", left=("source", "gaps"))
    for partition in coverage.partitions[:_LISTED]:
        shown = [f"{interval.first:,} … {interval.next - 1:,}" for interval in partition.intervals[:_FEW]]
        if len(partition.intervals) > _FEW:
            shown.append(f"{len(partition.intervals) - _FEW} more")
        holes = f"{partition.hole_offsets:,} in {len(partition.holes):,}" if partition.holes else "-"
        gaps = ", ".join(f"{gap.from_offset:,} … {gap.to_offset - 1:,}" for gap in partition.gaps[:_FEW])
        name = f"{partition.source_id}/{partition.partition}"
        table.add_row(
            escape(ascii(name)[1:-1]),
            f"{partition.events:,}",
            "; ".join(shown),
            holes,
            f"[red]{gaps}[/]" if gaps else "-",
        )
    print_table(table)
    console = Console()
    if len(coverage.partitions) > _LISTED:
        console.print(f"{len(coverage.partitions) - _LISTED:,} more partitions; --json lists them all.")
    if answer is not None:
        console.print(escape(str(answer)), soft_wrap=True)


def print_replayed(files: Sequence[ReplayedFile]) -> None:
    """What was written back."""
    table = new_table("file", "events", "bytes", "sha-256", "result", left=("file", "sha-256", "result"))
    for file in files[:_LISTED]:
        result = "[green]identical[/]" if file.is_identical else "[red]differs[/]"
        table.add_row(
            escape(ascii(file.path)[1:-1]),
            f"{file.events:,}",
            human_bytes(file.bytes),
            file.sha256[:16],
            result,
        )
    print_table(table)
    console = Console()
    identical = sum(file.is_identical for file in files)
    more = f" ({len(files) - _LISTED:,} more than shown)" if len(files) > _LISTED else ""
    console.print(f"{identical:,} of {len(files):,} files hash to what was archived{more}.")


def print_replayed_lines(result: LinesReplay) -> None:
    """Which files of lines were written; of lines on stdout, only what isn't among them."""
    _print_left_out(result.older_generations, result.timeless)
    if not result.is_in_files:
        return
    table = new_table("file", "events", "bytes", left=("file",))
    for file in result.files[:_LISTED]:
        table.add_row(escape(ascii(file.path)[1:-1]), f"{file.events:,}", human_bytes(file.bytes))
    print_table(table)
    more = f" ({len(result.files) - _LISTED:,} more than shown)" if len(result.files) > _LISTED else ""
    Console().print(
        f"{result.events:,} events, {human_bytes(result.bytes)} in {len(result.files):,} files{more}, {result.seconds:.2f} s."
    )


def print_replayed_topic(result: TopicReplay, checks: Sequence[PartitionCheck] | None) -> None:
    """What was written to a topic, and whether it has what the archive has."""
    console = Console()
    if result.events:
        console.print(
            f"{result.events:,} events written to {escape(result.target)} in {result.transactions:,} transactions, "
            f"{result.seconds:.2f} s"
            + (f"; {result.events_before:,} were there already." if result.events_before else "."),
            soft_wrap=True,
        )
    elif not result.events_before:
        console.print("Nothing was written: no archived event is among those that were asked for.")
    else:
        console.print(
            f"All is there already: {result.events_before:,} events in {escape(result.target)}.",
            soft_wrap=True,
        )
    _print_left_out(result.older_generations, result.timeless)
    if checks is None:
        return
    table = new_table(
        "partition", "archived", "in the topic", "sha-256", "result", left=("sha-256", "result")
    )
    differing = [check for check in checks if not check.is_equal]
    for check in (differing or checks)[:_LISTED]:
        table.add_row(
            str(check.partition),
            f"{check.archived.events:,}",
            f"{check.found.events:,}",
            check.archived.sha256[:16],
            "[green]equal[/]" if check.is_equal else "[red]differs[/]",
        )
    print_table(table)
    console.print(
        f"{len(checks) - len(differing):,} of {len(checks):,} partitions hold exactly what is archived."
    )


def _print_left_out(older_generations: int, timeless: int) -> None:
    if older_generations:
        complain(
            f"{older_generations:,} events of older generations were left out; --all-generations takes them too."
        )
    if timeless:
        complain(f"{timeless:,} events that carry no time were left out, since --from or --until is a time.")


@contextlib.contextmanager
def byte_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for `(done, total)`, if somebody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def ingest_progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What an ingest is doing, on stderr, if somebody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    console = Console(stderr=True)
    with console.status("reading …") as status:

        def show(progress: Progress) -> None:
            status.update(
                f"{progress.stream}: {progress.events:,} events{_of_events(progress)}, {human_bytes(progress.bytes)} read"
                f"{_of_bytes(progress)}, {progress.commits} commits"
            )

        yield show


def _of_events(progress: Progress) -> str:
    return "" if progress.total_events is None else f" of about {progress.total_events:,}"


def _of_bytes(progress: Progress) -> str:
    return "" if progress.total_bytes is None else f" of files of {human_bytes(progress.total_bytes)}"
