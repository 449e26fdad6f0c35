"""The command `copy`: places and streams in, a row per stream out.

What doesn't live here: copying (`event_archive.copying`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from event_archive.cli import render
from event_archive.cli.options import ConfigOption, JsonOption, configured_storage
from event_archive.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from event_archive.copying import CopyResult


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="An archive: a folder, or s3://bucket/prefix.")
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where its copy lies, or will.")],
    streams: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STREAM]...", help="Streams of the archive; all if none is named."),
    ] = None,
    *,
    to_endpoint_url: Annotated[
        str | None,
        typer.Option("--to-endpoint-url", metavar="URL", help="Of the target, if it isn't that of `s3`."),
    ] = None,
    to_region: Annotated[
        str | None, typer.Option("--to-region", metavar="REGION", help="Of the target, likewise.")
    ] = None,
    to_profile: Annotated[
        str | None, typer.Option("--to-profile", metavar="PROFILE", help="For the target, likewise.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy an archive, or what is new in it, to another place, byte for byte.

    Every file is proved while it passes. Safe to interrupt and to repeat; no configuration is needed, but if there is one,
    its `s3`, `cache` and `read_only_files` count. A target that has gone on differently is left as it is: exit code 1, and
    the first commit that differs is named.
    """
    from event_archive.copying import copy_stream, streams_of
    from event_archive.storage.opening import open_store

    options = configured_storage(config)
    target_options = replace(
        options,
        endpoint_url=to_endpoint_url or options.endpoint_url,
        region=to_region or options.region,
        profile=to_profile or options.profile,
    )
    here, there = open_store(source, options), open_store(target, target_options)
    if (here.url, options) == (there.url, target_options):
        raise UsageError(f"{source}: is both source and target; name another place to copy to.")
    results = []
    for stream in streams_of(here, streams):
        with render.byte_progress(f"copying {stream}", quiet=as_json) as show:
            results.append(copy_stream(here.child(stream), there.child(stream), on_progress=show))
    if as_json:
        render.print_json({"streams": results})
    else:
        _print(results, target)


def _print(results: Sequence[CopyResult], target: str) -> None:
    table = render.new_table("stream", "version", "commits", "files", "copied", "seconds", left=("stream",))
    for result in results:
        table.add_row(
            result.stream,
            str(result.version),
            f"{result.commits:,}",
            f"{result.files:,}",
            render.human_bytes(result.bytes),
            f"{result.seconds:.2f}",
        )
    render.print_table(table)
    console = Console()
    for result in results:
        if result.files_there:
            console.print(
                f"{result.stream}: {result.files_there:,} files were there from a copy that was interrupted; each was proved."
            )
        if result.files_gone:
            console.print(
                f"{result.stream}: {result.files_gone:,} files that compaction had replaced were gone already: harmless."
            )
    if not any(result.commits for result in results):
        console.print(f"Nothing was new: {target} has all of it.", soft_wrap=True)
