"""A landing folder held against the archive; opens no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.sources.files.landing import scan
from event_archive.sources.files.positions import OPEN_LINE
from event_archive.sources.files.reading import is_unchanged
from event_archive.sources.source_status import Lag, SourceStatus

if TYPE_CHECKING:
    from event_archive.source_config import FilesSource
    from event_archive.sources.files.positions import Positions


def files_status(source: FilesSource, positions: Positions) -> SourceStatus:
    """Status of a landing folder; `positions` are those of the whole log."""
    landing = source.path
    files, unreadable = scan(landing)
    waiting_files = waiting_bytes = 0
    for file in files:
        state = positions.by_path.get(file.path)
        if state is None:
            waiting_files += bool(file.size_bytes)
            waiting_bytes += file.size_bytes
        elif not is_unchanged(file, state) or state.left == OPEN_LINE:
            is_plain = not file.path.endswith((".gz", ".zst"))
            ahead = file.size_bytes - (state.position_bytes if is_plain else state.size_bytes)
            waiting_files += ahead != 0
            waiting_bytes += max(ahead, 0)
    there = {file.path for file in files}
    damaged = [
        f"{landing / path} {state.left.partition(': ')[2]}"
        for path, state in positions.by_path.items()
        if state.is_damaged
    ]
    return SourceStatus(
        positions={state.source_id: state.records for state in positions.by_path.values()},
        lag=Lag(waiting_files, waiting_bytes),
        gone=tuple(sorted(path for path in positions.by_path if path not in there)),
        problems=tuple([f"{landing / problem.path} {problem.reason}" for problem in unreadable] + damaged),
    )
