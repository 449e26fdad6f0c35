"""Where heads are kept: the places under `heads` of the configuration, appended to and read back.

What doesn't live here: what a head is, and whether an archive still contains it (`heads`).
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Protocol

from event_archive.durable import make_folder, storage_errors, sync
from event_archive.errors import EventArchiveError, UsageError
from event_archive.heads.head import (
    HeadDocument,
    StreamHead,
    contains_heads,
    decode_document,
    document_of,
    encode_document,
    read_head,
    read_head_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from event_archive.config import Config
    from event_archive.heads.places import HeadsConfig
    from event_archive.storage.store import Store

RECORD_SECONDS = 60.0
"""An ingest that goes on records heads so often at most."""
_OBJECT_NAME = re.compile(r"head-([a-z][a-z0-9_]{0,62})-([0-9]{20})-[0-9a-f]{16}\.json")


class HeadsPlace(Protocol):
    """A place that takes heads and gives them back."""

    name: str
    """As a person would write it."""

    def append(self, stream: str, head: StreamHead, made_at: str) -> None:
        """Records a head, durably.

        Raises:
            EventArchiveError: the place can't take it, or must not.
        """

    def read(self, stream: str) -> list[StreamHead]:
        """The heads of a stream that an archive is compared with: the newest at least.

        Raises:
            EventArchiveError: the place can't be read.
        """


def places_of(config: Config) -> list[HeadsPlace]:
    """The places of the configuration."""
    return [_place(config, settings) for settings in config.heads]


def _place(config: Config, settings: HeadsConfig) -> HeadsPlace:
    if settings.file is not None:
        return FilePlace(settings.file)
    if settings.s3 is not None:
        from event_archive.storage.opening import open_store

        return ObjectsPlace(open_store(settings.s3, config.storage))
    from event_archive.heads.topic import TopicPlace

    assert settings.kafka is not None  # noqa: S101 - one of the three is there
    return TopicPlace(settings.kafka.as_source())


def record_document(config: Config, document: HeadDocument) -> list[str]:
    """Appends heads to all places of the configuration.

    Returns:
        What could not be recorded, and why; never raises for it.

    Raises:
        UsageError: the configuration names no place.
    """
    if not config.heads:
        raise UsageError(
            f"{config.path}: names no place for heads; add `heads`, for example `heads: {{file: heads.jsonl}}`."
        )
    failures = []
    for settings in config.heads:
        try:
            place = _place(config, settings)
            for stream, head in document.streams.items():
                if head.version >= 0:
                    _append(config, place, stream, head, document.made_at)
        except EventArchiveError as error:
            failures.append(f"THE HEAD WAS NOT RECORDED: {error}")
    return failures


def _append(config: Config, place: HeadsPlace, stream: str, head: StreamHead, made_at: str) -> None:
    if isinstance(place, FilePlace | ObjectsPlace):
        place.append(stream, head, made_at)  # what was there stays
        return
    # A newer head makes a place forget the older one, which may be the last witness of what was cut off.
    for fault in contains_heads(config.table(stream), place.read(stream)):
        if fault is not None:
            raise UsageError(
                f"{place.name}: the head that is there stays, since the archive of {stream} doesn't contain it: {fault}"
            )
    place.append(stream, head, made_at)


def recorded_faults(config: Config, stream: str) -> list[str]:
    """Holds the archive of a stream against the heads that were recorded of it.

    Returns:
        A sentence for each head that isn't there any more, or that can't be read.
    """
    faults: list[str] = []
    for settings in config.heads:
        try:
            place = _place(config, settings)
            heads = place.read(stream)
        except EventArchiveError as error:
            faults.append(f"the recorded heads can't be read: {error}")
            continue
        found = contains_heads(config.table(stream), heads)
        faults += [f"{fault} ({place.name} has recorded it.)" for fault in found if fault is not None]
    return list(dict.fromkeys(faults))


def recorded_heads(config: Config, stream: str, warn: Callable[[str], None]) -> list[StreamHead]:
    """All heads of a stream that can be read from the places of the configuration.

    Args:
        config: the configuration.
        stream: name of a stream.
        warn: told of each place that can't be read.
    """
    heads: list[StreamHead] = []
    for settings in config.heads:
        try:
            heads += _place(config, settings).read(stream)
        except EventArchiveError as error:
            warn(f"{stream}: {error}")
    return list(dict.fromkeys(heads))


class HeadRecorder:
    """Records the head of one stream during and after an ingest; that it can't never stops the ingest."""

    def __init__(self, config: Config, stream: str, warn: Callable[[str], None]) -> None:
        self._config = config
        self._stream = stream
        self._warn = warn
        self._recorded_commits = 0
        self._recorded_at = time.monotonic()

    def note(self, commits: int) -> None:
        """Looks whether it is time; see `record`."""
        if time.monotonic() - self._recorded_at >= RECORD_SECONDS:
            self.record(commits)

    def record(self, commits: int) -> None:
        """Records the head if the ingest has made more commits, `commits` in all, than when it was recorded last."""
        if commits == self._recorded_commits or not self._config.heads:
            return
        self._recorded_commits, self._recorded_at = commits, time.monotonic()
        try:
            head = read_head(self._config.table(self._stream))
            failures = record_document(self._config, document_of({self._stream: head}))
        except EventArchiveError as error:
            failures = [f"THE HEAD WAS NOT RECORDED: {error}"]
        for text in failures:
            self._warn(f"{self._stream}: {text}")


class FilePlace:
    """A file with a line of JSON for each head; it is only ever appended to."""

    def __init__(self, path: Path) -> None:
        """Names the file and looks at nothing."""
        self._path = path
        self.name = str(path)

    def append(self, stream: str, head: StreamHead, made_at: str) -> None:
        """See `HeadsPlace`."""
        line = encode_document(HeadDocument(made_at, {stream: head})).encode() + b"\n"
        with storage_errors(self._path):
            make_folder(self._path.parent)
            is_new = not self._path.exists()
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(handle).st_size
                if size and os.pread(handle, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a line that was cut off ends here
                while line:
                    line = line[os.write(handle, line) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            if is_new:
                sync(self._path.parent)

    def read(self, stream: str) -> list[StreamHead]:
        """See `HeadsPlace`: all that were recorded."""
        if not self._path.exists():
            return []
        documents = read_head_file(self._path)
        return list(dict.fromkeys(doc.streams[stream] for doc in documents if stream in doc.streams))


class ObjectsPlace:
    """An object for each head, under a prefix; none is ever replaced."""

    def __init__(self, store: Store) -> None:
        """Takes the place, and looks at nothing."""
        self._store = store
        self.name = store.url

    def append(self, stream: str, head: StreamHead, made_at: str) -> None:
        """See `HeadsPlace`."""
        content = encode_document(HeadDocument(made_at, {stream: head})).encode() + b"\n"
        # A taken name is the same head, recorded before.
        self._store.put_new(f"head-{stream}-{head.version:020d}-{(head.chain_hash or '')[:16]}.json", content)

    def read(self, stream: str) -> list[StreamHead]:
        """See `HeadsPlace`: those of the highest version, which are two if the log was replaced."""
        named = [
            (int(match.group(2)), name)
            for name in self._store.names("")
            if (match := _OBJECT_NAME.fullmatch(name)) and match.group(1) == stream
        ]
        newest = max((version for version, _ in named), default=-1)
        heads = []
        for version, name in named:
            if version == newest:
                try:
                    heads.append(decode_document(self._store.read(name)).streams[stream])
                except (ValueError, KeyError) as error:
                    raise UsageError(f"{self._store.place(name)}: holds no head ({error}).") from error
        return heads
