"""The commands that compute tables, `refresh` and `rebuild`: what is asked for in, what was done out.

What doesn't live here: doing it (`event_archive.recompute`), and how builds and differences look (`builds_rendering`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from event_archive.cli import render
from event_archive.cli.ended import ended_by_sigterm
from event_archive.cli.options import ConfigOption, JsonOption  # noqa: TC001 - typer reads them
from event_archive.config import load_config
from event_archive.warehouse_config import PublishPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from event_archive.config import Config
    from event_archive.recompute.dbt import DbtProgress
    from event_archive.recompute.plan import Plan
    from event_archive.recompute.request import Request
    from event_archive.recompute.run import Recomputed
    from event_archive.warehouse import BuildDiff

Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="MODEL",
        help="Only these models, as dbt selects them: `carts`, with what it reads `+carts`, with what reads it `carts+`. Repeatable.",
    ),
]
Publish = Annotated[
    PublishPolicy | None,
    typer.Option(
        "--publish",
        help="When the result is published, instead of what the configuration says.",
        show_choices=True,
    ),
]


def refresh(
    *,
    select: Select = None,
    publish: Publish = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add what is new in the archive to the tables, check them, and publish them.

    Ends at once, without starting dbt, if nothing is new. A model whose code has changed since its rows were computed is computed again
    in full, with what reads it. Readers see the tables of before until everything is done and every check has passed.
    """
    from event_archive.recompute.request import Request

    _recompute(config, Request(select=tuple(select or ())), publish=publish, as_json=as_json)


def rebuild(
    *,
    select: Select = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="STATE",
            help="Of a past state of the archive: a build (`builds` lists them) or `live`, a time with its zone, or a JSON file that names commits.",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FILE", help="Into a new DuckDB file; what is published stays."),
    ] = None,
    days: Annotated[
        str | None,
        typer.Option(
            "--days",
            metavar="FIRST..LAST",
            help="Only these days of day level models, such as 2026-01-01..2026-01-31 or one day, in the tables as they are.",
        ),
    ] = None,
    ingested: Annotated[
        str | None,
        typer.Option(
            "--ingested",
            metavar="FIRST..LAST",
            help="Only what events that were archived on these days (UTC) have a part in, in the tables as they are.",
        ),
    ] = None,
    publish: Publish = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute tables again from the archive alone, show what differs from the published ones, and publish them.

    `publish` in the configuration says whether a build that differs is published: always, if_equal, or ask; one of a past state
    never is by itself. One that isn't waits: `publish BUILD_ID` publishes it, `diff live BUILD_ID` shows every difference.
    """
    from event_archive.recompute.ranges import range_of_days
    from event_archive.recompute.request import Request

    request = Request(
        is_rebuild=True,
        select=tuple(select or ()),
        as_of=as_of,
        into=into,
        days=range_of_days("--days", days),
        ingested=range_of_days("--ingested", ingested),
    )
    _recompute(config, request, publish=publish, as_json=as_json)


def _recompute(
    config: Path | None, request: Request, *, publish: PublishPolicy | None, as_json: bool
) -> None:
    from event_archive.cli.builds_rendering import print_diff
    from event_archive.recompute.run import recompute

    loaded = load_config(config)
    if publish is not None:
        loaded = loaded.model_copy(update={"publish": publish})
    started = time.monotonic()
    is_watched = not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    with ended_by_sigterm(), _progress(quiet=as_json) as (show, pause):

        def tell(plan: Plan) -> None:
            if not as_json:
                pause()
                _print_plan(plan, request)
            show(None)

        def show_difference(difference: BuildDiff) -> None:
            if not as_json:
                pause()
                print_diff(difference)

        def confirm(_: BuildDiff) -> bool:
            return typer.confirm("Publish it?", default=False)

        done = recompute(
            loaded,
            request,
            built_by=f"event-archive {'rebuild' if request.is_rebuild else 'refresh'}",
            confirm=confirm if is_watched else None,
            on_plan=tell,
            on_progress=show,
            on_difference=show_difference,
        )
    seconds = time.monotonic() - started
    if as_json:
        render.print_json(_document(done, seconds))
    else:
        _print_done(done, loaded, seconds)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[DbtProgress | None], None], Callable[[], None]]]:
    """What is being computed, on stderr, if somebody watches; and a function that takes it away, so that other things can be said."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None, lambda: None
        return
    with Console(stderr=True).status("reading the models …") as status:

        def show(progress: DbtProgress | None) -> None:
            text = "starting dbt …"
            if progress is not None:
                running = ", ".join(progress.running[:3]) or "…"
                text = f"{progress.done} of {progress.total or '?'} models and checks; {running}"
            status.update(escape(text))
            status.start()

        yield show, status.stop


def _print_plan(plan: Plan, request: Request) -> None:
    console = Console(soft_wrap=True)
    if request.is_rebuild:
        return
    if plan.base is None:
        console.print("There are no tables to go on from: everything is computed.", highlight=False)
    for model, reason in plan.stale.items():
        console.print(f"{model}: computed in full, since {reason}.", highlight=False)
    for _, model, _ in plan.gone:
        console.print(f"{model}: the project hasn't this model any more; its table goes.", highlight=False)


def _print_done(done: Recomputed, config: Config, seconds: float) -> None:
    from event_archive.recompute.run import Ending

    console = Console(soft_wrap=True, highlight=False)
    if done.record is None:
        console.print(f"Nothing to do: {done.reason}")
        return
    new = ", ".join(f"{count:+,} events of {name}" for name, count in done.new_since_published.items())
    checks = "" if done.dbt is None else "{:,} of {:,} checks passed. ".format(*done.dbt.checks)
    rows = sum(mart.rows for mart in done.record.marts)
    console.print(
        f"{len(done.record.marts)} tables, {rows:,} rows{f', {new}' if new else ''}, in {seconds:.1f} s. {checks}"
    )
    if done.ending is Ending.WRITTEN:
        console.print(escape(f"Written to {done.file}; the published tables stay as they are."))
        return
    console.print(escape(done.reason))
    if done.ending is Ending.PUBLISHED:
        console.print(escape(f"Readers open {config.warehouse / 'current.duckdb'}."))


def _document(done: Recomputed, seconds: float) -> dict[str, Any]:
    import json

    from event_archive.warehouse.record import to_json

    return {
        "ending": done.ending.value,
        "reason": done.reason,
        "build_id": None if done.record is None else done.record.build_id,
        "file": None if done.file is None else str(done.file),
        "seconds": round(seconds, 3),
        "computed_in_full": dict(done.plan.stale),
        "new_events": dict(done.plan.new_events),
        "new_since_published": dict(done.new_since_published),
        "checks": None if done.dbt is None else dict(zip(("passed", "run"), done.dbt.checks, strict=True)),
        "record": None if done.record is None else json.loads(to_json(done.record)),
        "difference": done.difference,
    }
