"""Archived events as JSON lines, on a stream or in a folder: the payloads as they are, or one object for each event.

A payload is a line only if it can be told from its neighbours: one that holds a line end, or is null (a tombstone), is
refused by name. What doesn't live here: the files of a stream of files, byte for byte (`folder`).
"""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from event_archive.cycle_collector import without_cycle_collector
from event_archive.durable import make_folder, sha256_of, storage_errors, sync
from event_archive.errors import UsageError
from event_archive.read_ahead import read_ahead
from event_archive.replay.folder import refuse_full_folder, target_paths
from event_archive.replay.json_events import ENVELOPE_COLUMNS, json_lines
from event_archive.replay.pace import Pace
from event_archive.sources.files.lines import join
from event_archive.sources.kafka.positions import decode_source_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from event_archive.replay.events import ArchivedEvents

STDOUT = "-"
_BLOCKS_AHEAD = 4
_NO_BLANK_LINES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class LinesFile:
    """One file that was written."""

    path: str
    events: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LinesReplay:
    """What was written."""

    stream: str
    target: str
    events: int
    bytes: int
    seconds: float
    files: tuple[LinesFile, ...]
    """Those of a folder; empty for a stream."""
    older_generations: int
    """Events left out since they belong to older generations."""
    timeless: int
    """Events left out since they have no time, and times were asked for."""

    @property
    def is_in_files(self) -> bool:
        """Whether it went to a folder."""
        return self.target != STDOUT


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring events of one partition of a source, as lines."""

    source_id: str
    partition: int
    events: int
    lines: bytes


class _FolderWriter:
    """A file for each partition of a source, in a folder of their own; none has its name before all are whole."""

    def __init__(self, folder: Path, sources: dict[str, frozenset[int]]) -> None:
        refuse_full_folder(folder)
        self._folder = folder
        self._paths = _paths(sources)
        self._token = uuid.uuid4().hex
        self._events: dict[tuple[str, int], int] = dict.fromkeys(self._paths, 0)
        with storage_errors(folder):
            make_folder(folder)

    def write(self, run: _Run) -> None:
        """Appends to the file of a partition."""
        key = (run.source_id, run.partition)
        partial = self._partial(key)
        with storage_errors(partial):
            if not self._events[key]:
                make_folder(partial.parent)
            with partial.open("ab") as file:
                file.write(run.lines)
        self._events[key] += run.events

    def _partial(self, key: tuple[str, int]) -> Path:
        path = self._folder / self._paths[key]
        name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return path.with_name(f".{name}.{self._token}.partial")

    def finish(self) -> tuple[LinesFile, ...]:
        """Makes the files durable and gives them their names."""
        finished = []
        for key, events in self._events.items():
            if not events:
                continue
            partial, path = self._partial(key), self._folder / self._paths[key]
            with storage_errors(path):
                sync(partial)
                path.hardlink_to(partial)
                partial.unlink()
                sync(path.parent)
                finished.append(LinesFile(str(path), events, path.stat().st_size, sha256_of(path)))
        return tuple(finished)

    def remove_partials(self) -> None:
        """Removes what was written and not finished."""
        for key in self._paths:
            self._partial(key).unlink(missing_ok=True)


def replay_lines(
    stream: str,
    archived: ArchivedEvents,
    file: IO[bytes],
    *,
    envelope: bool = False,
    events_per_second: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LinesReplay:
    """Writes events as lines to one file, such as stdout, in the order of the archive.

    Args:
        stream: its name.
        archived: the events.
        file: where they go.
        envelope: one JSON object for each event with all that is archived of it, instead of its payload.
        events_per_second: no more than so many.
        on_progress: called with events looked at and events to look at.

    Raises:
        UsageError: without an envelope, a payload that is no line.
        ArchiveDamaged: a data file isn't the one that was committed.
    """
    started = time.monotonic()
    pace = Pace(events_per_second)
    size = 0
    for runs in _encoded(archived, pace, envelope=envelope, on_progress=on_progress):
        for run in runs:
            file.write(run.lines)
            size += len(run.lines)
        if events_per_second is not None:
            file.flush()
    file.flush()
    return LinesReplay(
        stream=stream,
        target=STDOUT,
        events=pace.events,
        bytes=size,
        seconds=time.monotonic() - started,
        files=(),
        older_generations=archived.selection.older_events,
        timeless=archived.selection.timeless_events,
    )


def replay_lines_to_folder(
    stream: str,
    archived: ArchivedEvents,
    folder: Path,
    *,
    envelope: bool = False,
    events_per_second: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LinesReplay:
    """Writes a file of lines for each partition of a source into an empty folder; see `replay_lines`.

    Raises:
        UsageError: the folder isn't empty, or as in `replay_lines`; no file has its name then.
        StorageError: the disk refused.
    """
    started = time.monotonic()
    pace = Pace(events_per_second)
    writer = _FolderWriter(folder, archived.selection.sources)
    try:
        for runs in _encoded(archived, pace, envelope=envelope, on_progress=on_progress):
            for run in runs:
                writer.write(run)
        files = writer.finish()
    finally:
        writer.remove_partials()
    return LinesReplay(
        stream=stream,
        target=str(folder),
        events=pace.events,
        bytes=sum(file.bytes for file in files),
        seconds=time.monotonic() - started,
        files=files,
        older_generations=archived.selection.older_events,
        timeless=archived.selection.timeless_events,
    )


def _encoded(
    archived: ArchivedEvents,
    pace: Pace,
    *,
    envelope: bool,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[list[_Run]]:
    encode = _envelopes if envelope else _payloads
    total = archived.events_before(archived.end)
    done = 0
    columns = ENVELOPE_COLUMNS if envelope else ("value",)
    ahead = read_ahead(archived.blocks(columns, rows_a_block=pace.rows_a_block), limit=_BLOCKS_AHEAD)
    with without_cycle_collector(), ahead as blocks:
        for block in blocks:
            time.sleep(pace.wait_seconds(block.events.num_rows))
            yield [
                _Run(source_id, partition, events.num_rows, encode(events))
                for source_id, partition, events in _runs(block.events)
            ]
            done += block.row_count
            if on_progress is not None:
                on_progress(done, total)


def _payloads(events: pa.Table) -> bytes:
    values = events["value"].combine_chunks()
    is_no_line = pc.fill_null(pc.match_substring(values, b"\n"), True)  # noqa: FBT003 - Arrow's signature
    if pc.any(is_no_line).as_py():
        place = pc.index(is_no_line, True).as_py()
        what = "is null (a tombstone)" if not values[place].is_valid else "holds a line end"
        raise UsageError(
            f"{events['source_id'][place].as_py()} partition {events['source_partition'][place].as_py()}: the payload at offset "
            f"{events['source_offset'][place].as_py()} {what}, so it is no line. --envelope writes one JSON object for each event."
        )
    return join(values, _NO_BLANK_LINES)


def _envelopes(events: pa.Table) -> bytes:
    return json_lines(events).encode()


def _runs(events: pa.Table) -> Iterator[tuple[str, int, pa.Table]]:
    """Neighbouring events of one partition of a source."""
    if not events.num_rows:
        return
    source = events["source_id"].combine_chunks()
    indices, partitions = source.indices.to_numpy(), events["source_partition"].to_numpy()
    changes = np.flatnonzero((np.diff(indices) != 0) | (np.diff(partitions) != 0)) + 1
    starts = [0, *changes.tolist()]
    for start, end in zip(starts, [*starts[1:], events.num_rows], strict=True):
        name = source.dictionary[int(indices[start])].as_py()
        yield name, int(partitions[start]), events.slice(start, end - start)


def _paths(sources: dict[str, frozenset[int]]) -> dict[tuple[str, int], str]:
    """A path, relative to the target folder, for each partition of a source; no two the same."""
    files = [source_id for source_id in sources if source_id.startswith("file:")]
    paths = {(source_id, 0): path for source_id, path in target_paths(files).items()}
    taken = set(paths.values())
    for source_id, partitions in sources.items():
        if source_id.startswith("file:"):
            continue
        _, topic, generation = decode_source_id(source_id)
        suffix = f".generation-{generation}" if generation > 1 else ""
        for partition in sorted(partitions):
            path, number = f"{topic}-{partition}{suffix}.jsonl", 1
            while path in taken:
                number += 1
                path = f"{topic}-{partition}{suffix}.{number}.jsonl"
            taken.add(path)
            paths[source_id, partition] = path
    return paths
