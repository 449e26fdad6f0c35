"""What several commands have in common: their options, which streams are meant, and times as people type them.

What doesn't live here: the commands (`app` and the modules that it registers).
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from event_archive.config import CONFIG_FILE, CONFIG_VARIABLE, load_config
from event_archive.errors import UsageError
from event_archive.storage.opening import StorageOptions

if TYPE_CHECKING:
    from event_archive.config import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"The configuration; by default ${CONFIG_VARIABLE} or ./event_archive.yaml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Streams = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STREAM]...", help="Streams of the configuration; all if none is named."),
]


def chosen_streams(config: Config, streams: list[str] | None) -> list[str]:
    """The streams that a command is about.

    Raises:
        UsageError: one isn't configured, or none is.
    """
    for name in streams or ():
        config.stream(name)
    if not config.streams:
        raise UsageError(f"{config.path}: no streams are configured; add one under `streams`.")
    return list(dict.fromkeys(streams or config.streams))


def configured_storage(config: Path | None) -> StorageOptions:
    """How places are reached that are named on the command line: as the configuration says, if there is one.

    Args:
        config: the file that `--config` names.
    """
    is_there = config is not None or CONFIG_VARIABLE in os.environ or Path(CONFIG_FILE).exists()
    return load_config(config).storage if is_there else StorageOptions()


def time_with_zone(text: str) -> dt.datetime:
    """Read a time that somebody has typed.

    Raises:
        UsageError: It is none, or has no zone.
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise UsageError(f"{text!r}: write a time with its zone, for example 2026-01-31T12:00:00Z.")
    return time
