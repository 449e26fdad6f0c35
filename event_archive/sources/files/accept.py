"""The operator's decision about a file that is not any more what was archived of it.

What doesn't live here: finding such files out (`ingest` does, and asks for this).
"""

from __future__ import annotations

import datetime as dt
import os
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from event_archive.archive.commit import Batch, Head, commit
from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import CommitConflict, UsageError
from event_archive.sources.files.ingest import read_settings
from event_archive.sources.files.landing import scan
from event_archive.sources.files.positions import (
    ACCEPTED_DAMAGE,
    DAMAGED,
    UNREAD,
    Claim,
    FileState,
    Positions,
    encode_claims,
    encode_source_id,
)
from event_archive.sources.files.reading import Changed, ReadSettings, is_unchanged, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.config import StreamConfig
    from event_archive.source_config import FilesSource
    from event_archive.sources.files.landing import LandingFile
    from event_archive.storage.store import Store


def path_in_landing(source: FilesSource, file: Path) -> str | None:
    """Path of a file relative to a landing folder; None if it lies elsewhere."""
    wanted = os.path.normpath(file.absolute())
    landing = os.path.normpath(source.path.absolute())
    return os.path.relpath(wanted, landing) if wanted.startswith(landing + os.sep) else None


def accept_file(stream: str, settings: StreamConfig, source: FilesSource, table: Store, path: str) -> None:
    """Accepts a file as it is now: a changed one becomes a new generation, a damaged one is no problem any more.

    Args:
        stream: name of the stream.
        settings: of the stream.
        source: its landing folder.
        table: its table.
        path: of the file, relative to the landing folder.

    Raises:
        UsageError: there is nothing to accept about it.
    """
    while True:
        try:
            _decide(stream, settings, source, table, path)
        except CommitConflict:
            continue  # an ingest was faster; what it did may have changed the question
        return


def _decide(stream: str, settings: StreamConfig, source: FilesSource, table: Store, path: str) -> None:
    positions = Positions()
    snapshot = read_snapshot(table, on_commit=positions.note)
    state = positions.by_path.get(path)
    if state is None:
        raise UsageError(f"{path}: nothing of it is archived yet; `event-archive ingest {stream}` does that.")
    landing = source.path
    found = next((file for file in scan(landing)[0] if file.path == path), None)
    if found is None:
        raise UsageError(f"{landing / path}: is not there, or can't be read.")
    reading = read_settings(source, commit_bytes=settings.commit_bytes, settled=False)
    accepted = _accepted(reading, found, state, positions.generations[path] + 1)
    batch = Batch(None, 0, encode_claims([Claim(accepted.records, accepted, np.empty(0, np.int64))]), {})
    commit(table, Head(snapshot.version, snapshot.chain_hash), batch, ingested_at=dt.datetime.now(dt.UTC))


def _accepted(settings: ReadSettings, file: LandingFile, state: FileState, generation: int) -> FileState:
    if state.is_damaged and is_unchanged(file, state):
        return replace(state, left=state.left.replace(DAMAGED, ACCEPTED_DAMAGE, 1))
    try:
        end = deque(read_file(file, state, settings), maxlen=1)
    except Changed:
        return replace(UNREAD, source_id=encode_source_id(file.path, generation))
    if state.is_damaged and [(p.state.left, p.state.sha256) for p in end] == [(state.left, state.sha256)]:
        return replace(state, left=state.left.replace(DAMAGED, ACCEPTED_DAMAGE, 1))
    raise UsageError(
        f"{file.path}: begins as it was archived, so there is nothing to accept; `ingest` takes what is new."
    )
