"""The commands about builds of the warehouse, `builds`, `rollback`, `publish` and `diff`: names in, what was done or found out.

What doesn't live here: what they do (`event_archive.warehouse`) and how it looks (`builds_rendering`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from event_archive.cli import render
from event_archive.cli.options import ConfigOption, JsonOption  # noqa: TC001 - typer reads them
from event_archive.config import load_config
from event_archive.errors import EventArchiveError, UsageError

if TYPE_CHECKING:
    from event_archive.warehouse.publish import Switched

_WRONG_USAGE = 2


def builds(*, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the builds of the tables, newest first: the live one, those that wait to be published, older ones.

    `keep_builds` of them stay on disk. Of a removed one the record is left, from which `rebuild --as-of` computes it again.
    """
    from event_archive.cli.builds_rendering import builds_document, print_builds
    from event_archive.warehouse import list_builds

    found = list_builds(load_config(config).warehouse)
    if as_json:
        render.print_json(builds_document(found))
    else:
        print_builds(found)
    for build in found:
        if build.problem is not None:
            render.complain(build.problem)


def rollback(
    build_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[BUILD_ID]",
            help="A build that is kept; by default the one published before the live one.",
        ),
    ] = None,
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to an older build: readers see it from now on, and the next refresh goes on from it.

    Nothing is lost: the build that was live is kept like the others, and what it held is in the archive.
    """
    from event_archive.warehouse import roll_back

    _print_switched(roll_back(load_config(config).warehouse, build_id), as_json=as_json)


def publish(
    build_id: Annotated[
        str, typer.Argument(metavar="BUILD_ID", help="A build that waits, or any that is kept.")
    ],
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a finished build that waits: readers see it from now on."""
    from event_archive.warehouse import publish_waiting

    _print_switched(publish_waiting(load_config(config).warehouse, build_id), as_json=as_json)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A build, `live`, or a .duckdb file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    mart: Annotated[
        str | None, typer.Argument(metavar="[MART]", help="Only this table; all by default.")
    ] = None,
    *,
    samples: Annotated[
        int,
        typer.Option("--samples", metavar="N", min=0, max=1000, help="How many rows of each kind are shown."),
    ] = 5,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two builds: rows added, removed and changed, in which columns, with samples.

    Tables of which both builds have recorded the same digest aren't read. Exit code 0 if nothing differs, 1 if something does, 2 if the
    builds can't be compared.
    """
    from event_archive.cli.builds_rendering import print_diff
    from event_archive.warehouse import diff_builds

    try:
        files = [_file(name, config) for name in (a, b)]
        difference = diff_builds(files[0], files[1], mart=mart, samples=samples)
    except EventArchiveError as error:  # exit code 1 says that the builds differ, which isn't known
        render.complain(str(error))
        raise typer.Exit(_WRONG_USAGE) from error
    if as_json:
        render.print_json({"is_equal": difference.is_equal, "diff": difference})
    else:
        print_diff(difference)
    if not difference.is_equal:
        raise typer.Exit(1)


def _file(name: str, config: Path | None) -> Path:
    from event_archive.warehouse import find_build
    from event_archive.warehouse.layout import is_build_id

    if name == "live" or is_build_id(name):
        return find_build(load_config(config).warehouse, name)
    file = Path(name)
    if not file.is_file():
        raise UsageError(
            f"{name!r} is no build, and no file. Name a build (`event-archive builds` lists them), `live`, or a .duckdb file."
        )
    return file


def _print_switched(done: Switched, *, as_json: bool) -> None:
    now, before = done.now, done.before
    if as_json:
        render.print_json(
            {
                "live": now.build_id,
                "live_before": None if before is None else before.build_id,
                "events_behind": done.events_behind,
            }
        )
        return
    if before is not None and before.build_id == now.build_id:
        typer.echo(f"Build {now.build_id} is the live one already; nothing was changed.")
        return
    typer.echo(
        f"Live is now build {now.build_id}, a {now.mode} of {now.finished_at:%Y-%m-%d %H:%M:%S} UTC by {now.built_by}."
    )
    if before is not None:
        behind = ", ".join(f"{events:,} more events of {name}" for name, events in done.events_behind.items())
        typer.echo(f"Before it was {before.build_id}, which holds {behind or 'no more events'}. It is kept.")
    typer.echo("Who has the tables open reads on; the next refresh goes on from the live build.")
