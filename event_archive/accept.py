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
from event_archive.ingest import IngestResult, ingest_stream, read_settings
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
from event_archive.sources.files.reading import Changed, is_unchanged, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.config import Config
    from event_archive.sources.files.landing import LandingFile


def accept_file(config: Config, file: Path) -> IngestResult:
    """Accepts `file` as it is now: a changed one is archived as a new generation, a damaged one is no problem any more.

    Args:
        config: the configuration.
        file: a file in the landing folder of a configured stream.

    Raises:
        UsageError: no stream reads this file, or there is nothing to accept about it.
    """
    stream, path = _find(config, file)
    while True:
        try:
            _decide(config, stream, path)
            break
        except CommitConflict:
            continue  # an ingest was faster; what it did may have changed the question
    return ingest_stream(config, stream, only=frozenset([path]))


def _find(config: Config, file: Path) -> tuple[str, str]:
    wanted = os.path.normpath(file.absolute())
    for stream, settings in config.streams.items():
        landing = os.path.normpath(settings.source.path.absolute())
        if wanted.startswith(landing + os.sep):
            return stream, os.path.relpath(wanted, landing)
    raise UsageError(f"{file}: lies in the landing folder of no configured stream.")


def _decide(config: Config, stream: str, path: str) -> None:
    table = config.table(stream)
    positions = Positions()
    snapshot = read_snapshot(table, on_commit=positions.note)
    state = positions.by_path.get(path)
    if state is None:
        raise UsageError(f"{path}: nothing of it is archived yet; `event-archive ingest {stream}` does that.")
    landing = config.stream(stream).source.path
    found = next((file for file in scan(landing)[0] if file.path == path), None)
    if found is None:
        raise UsageError(f"{landing / path}: is not there, or can't be read.")
    accepted = _accepted(config, stream, found, state, positions.generations[path] + 1)
    batch = Batch(None, 0, encode_claims([Claim(accepted.records, accepted, np.empty(0, np.int64))]), {})
    commit(table, Head(snapshot.version, snapshot.chain_hash), batch, ingested_at=dt.datetime.now(dt.UTC))


def _accepted(config: Config, stream: str, file: LandingFile, state: FileState, generation: int) -> FileState:
    if state.is_damaged and is_unchanged(file, state):
        return replace(state, left=state.left.replace(DAMAGED, ACCEPTED_DAMAGE, 1))
    settings = read_settings(config.stream(stream), settled=False)
    try:
        end = deque(read_file(file, state, settings), maxlen=1)
    except Changed:
        return replace(UNREAD, source_id=encode_source_id(file.path, generation))
    if state.is_damaged and [(p.state.left, p.state.sha256) for p in end] == [(state.left, state.sha256)]:
        return replace(state, left=state.left.replace(DAMAGED, ACCEPTED_DAMAGE, 1))
    raise UsageError(
        f"{file.path}: begins as it was archived, so there is nothing to accept; `ingest` takes what is new."
    )
