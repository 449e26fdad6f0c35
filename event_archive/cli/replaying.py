"""The command `replay`: what was asked for, handed to the part of the library that does it.

What doesn't live here: replaying (`event_archive.replay`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from event_archive.cli import render
from event_archive.errors import UsageError
from event_archive.replay.events import ArchivedEvents
from event_archive.replay.folder import replay_to_folder
from event_archive.replay.selection import Bounds, parse_bound
from event_archive.source_config import FilesSource

if TYPE_CHECKING:
    from event_archive.config import Config

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the command, as typed."""

    to: str
    envelope: bool = False
    begin: str | None = None
    end: str | None = None
    all_generations: bool = False
    rate: float | None = None
    map_partitions: str = "same"
    check: bool = False
    append: bool = False
    zero_timestamp: int | None = None
    properties: Path | None = None
    as_json: bool = False

    @property
    def is_topic(self) -> bool:
        """Whether events go to a topic."""
        return self.to.startswith("kafka:")

    def refuse_together(self) -> None:
        """Refuses options that mean nothing for the target.

        Raises:
            UsageError: there is one.
        """
        of_topics = {
            "--map-partitions": self.map_partitions != "same",
            "--check": self.check,
            "--append": self.append,
            "--zero-timestamp": self.zero_timestamp is not None,
            "--properties": self.properties is not None,
        }
        of_lines = {"--envelope": self.envelope}
        for option, is_given in (of_lines if self.is_topic else of_topics).items():
            if is_given:
                kind = "JSON lines" if self.is_topic else "a topic"
                raise UsageError(f"{option} is for a replay to {kind}; --to {self.to} is none.")
        if self.as_json and self.to == STDOUT:
            raise UsageError(
                "--json prints a document on stdout, where --to - writes the events; leave one of them out."
            )


def run_replay(config: Config, stream: str, asked: Asked) -> int:
    """Replays, prints what was done, and returns the exit code."""
    asked.refuse_together()
    is_of_files = isinstance(config.stream(stream).source, FilesSource)
    bounds = Bounds(
        parse_bound(asked.begin, "--from"), parse_bound(asked.end, "--until"), asked.all_generations
    )
    if asked.is_topic:
        return _to_topic(config, stream, bounds, asked)
    if asked.to == STDOUT or asked.envelope or not is_of_files:
        return _to_lines(ArchivedEvents(config, stream, bounds), stream, asked)
    if not bounds.is_everything or bounds.all_generations or asked.rate is not None:
        raise UsageError(
            "Files come back whole, with all their generations: leave out --from, --until, --all-generations and --rate."
        )
    with render.byte_progress(f"replaying {stream}", quiet=asked.as_json) as show:
        files = replay_to_folder(config, stream, Path(asked.to), on_progress=show)
    if asked.as_json:
        render.print_json({"stream": stream, "files": files})
    else:
        render.print_replayed(files)
    return 0 if all(file.is_identical for file in files) else 1


def _to_lines(archived: ArchivedEvents, stream: str, asked: Asked) -> int:
    from event_archive.replay.lines import replay_lines, replay_lines_to_folder

    is_on_screen = asked.to == STDOUT and sys.stdout.isatty()
    with render.byte_progress(f"replaying {stream}", quiet=asked.as_json or is_on_screen) as show:
        if asked.to == STDOUT:
            result = replay_lines(
                stream,
                archived,
                sys.stdout.buffer,
                envelope=asked.envelope,
                events_per_second=asked.rate,
                on_progress=show,
            )
        else:
            result = replay_lines_to_folder(
                stream,
                archived,
                Path(asked.to),
                envelope=asked.envelope,
                events_per_second=asked.rate,
                on_progress=show,
            )
    if asked.as_json:
        render.print_json(result)
    else:
        render.print_replayed_lines(result)
    return 0


def _to_topic(config: Config, stream: str, bounds: Bounds, asked: Asked) -> int:
    from event_archive.replay.check import check_topic
    from event_archive.replay.routing import Mapping
    from event_archive.replay.target import parse_target
    from event_archive.replay.topic import Options, TopicWriter

    target = parse_target(config, stream, asked.to, asked.properties)
    archived = ArchivedEvents(config, stream, bounds)
    options = Options(Mapping(asked.map_partitions), asked.rate, asked.zero_timestamp, asked.append)
    writer = TopicWriter(stream, archived, target, options)
    for text in writer.warnings:
        render.complain(text)
    with render.byte_progress(f"replaying {stream}", quiet=asked.as_json) as show:
        result = writer.write(show)
    checks = None
    if asked.check:
        with render.byte_progress(f"checking {stream}", quiet=asked.as_json) as show:
            checks = check_topic(writer, show)
    if asked.as_json:
        document: dict[str, Any] = {"replay": result}
        if checks is not None:
            document["is_equal"] = all(check.is_equal for check in checks)
            document["partitions"] = [
                {"partition": c.partition, "is_equal": c.is_equal, "archived": c.archived, "found": c.found}
                for c in checks
            ]
        render.print_json(document)
    else:
        render.print_replayed_topic(result, checks)
    return 0 if checks is None or all(check.is_equal for check in checks) else 1
