"""A past state of the archive by name: what an earlier build has seen, what there was at a time, or what a file says.

What doesn't live here: pinning the streams there (`event_archive.warehouse.pin`).
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from event_archive.archive.history import iter_commits
from event_archive.errors import ArchiveDamaged, EventArchiveError, UsageError
from event_archive.warehouse import layout, pin_streams
from event_archive.warehouse.record import BuildRecord, BuildUnreadable, StreamRecord, from_json, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from event_archive.config import Config
    from event_archive.warehouse.build import PinnedStream

LIVE = "live"


class HistoryChanged(EventArchiveError):
    """The archive isn't the one that the tables were made from; only a rebuild makes them of this one."""


def pin_live(config: Config) -> dict[str, PinnedStream] | None:
    """Pin every stream where the published tables end; None if that can't be any more, since the archive or its streams are others now."""
    try:
        return pin_as_of(config, LIVE)
    except (UsageError, HistoryChanged, ArchiveDamaged, BuildUnreadable):
        return None


def pin_as_of(config: Config, as_of: str, *, of_a_part: bool = False) -> dict[str, PinnedStream]:
    """Pin every stream where a past state had it.

    Args:
        config: The configuration.
        as_of: The name of a build, also of one whose file has been removed; `live` for the published one; a time with its zone
            (what had been committed until then); or a JSON file with `streams: {name: {version, chain_hash}}`, such as a build's record.
        of_a_part: Whether it may be a build of which only some tables were computed, and the others are of earlier states.

    Raises:
        UsageError: Nothing of that name is known.
        HistoryChanged: The archive isn't the one that the state was of.
        ArchiveDamaged: A log can't be read.
    """
    states = _recorded(config, as_of, of_a_part=of_a_part)
    if states is None:
        time = _time(as_of)
        if time is None:
            raise UsageError(
                f"{as_of!r} is no build, no time and no file: name one of `event-archive builds`, a time with its zone "
                "(2026-01-31T12:00:00Z), or the record of a build (builds/….json)."
            )
        return pin_streams(config, at={name: _version_at(config, name, time) for name in config.streams})
    # A stream that the state doesn't know was not there then.
    at = {name: states[name].version if name in states else -1 for name in config.streams}
    pinned = pin_streams(config, at=at)
    for name, state in states.items():
        if name not in pinned and state.version < 0:
            continue
        if name not in pinned:
            raise UsageError(
                f"{as_of} has seen a stream {name!r}, which the configuration hasn't: add it again."
            )
        if state.chain_hash not in (None, pinned[name].chain_hash):
            raise HistoryChanged(
                f"The archive of {name} isn't the one that {as_of} has seen: its commit {state.version} is another one. "
                "`event-archive verify` tells whether this archive is whole."
            )
    return pinned


def _recorded(config: Config, as_of: str, *, of_a_part: bool) -> Mapping[str, StreamRecord] | None:
    build_id = layout.current_build_id(config.warehouse) if as_of == LIVE else as_of
    if as_of == LIVE and build_id is None:
        raise UsageError("Nothing is published yet, so there is no live build to go back to.")
    if build_id is not None and layout.is_build_id(build_id):
        if not layout.record_file(config.warehouse, build_id).exists():
            raise UsageError(
                f"There is no record of a build {build_id} in {config.warehouse}; `event-archive builds` lists what there is, and any state of "
                "the archive has a name by its time."
            )
        return _whole(read_record(config.warehouse, build_id), of_a_part=of_a_part)
    path = Path(as_of)
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        record = from_json(text, as_of)
    except BuildUnreadable:
        return _streams_of(text, as_of)
    return _whole(record, of_a_part=of_a_part)


def _whole(record: BuildRecord, *, of_a_part: bool) -> Mapping[str, StreamRecord]:
    if record.is_partial and not of_a_part:
        raise UsageError(
            f"Only some tables of build {record.build_id} were computed, so that they are of different states of the archive; name a time instead: "
            f"{record.finished_at.isoformat(timespec='seconds')}."
        )
    return record.streams


def _streams_of(text: str, name: str) -> dict[str, StreamRecord]:
    try:
        streams: dict[str, Any] = json.loads(text)["streams"]
        return {
            stream: StreamRecord(int(state["version"]), int(state.get("events", 0)), state.get("chain_hash"))
            for stream, state in streams.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f'{name} doesn\'t say which commits: it must be JSON like {{"streams": {{"bookings": {{"version": 12}}}}}}.'
        ) from error


def _time(text: str) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def _version_at(config: Config, stream: str, time: dt.datetime) -> int:
    """The last commit before the first one that was made after `time`."""
    limit_us = int(time.timestamp() * 1_000_000)
    version = -1
    for commit in iter_commits(config.table(stream)):
        if commit.events and commit.ingested_at_us > limit_us:
            break
        version = commit.version
    return version
