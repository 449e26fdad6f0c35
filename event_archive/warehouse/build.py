"""A build of the warehouse: a new DuckDB file beside the published one, and the lock that makes it the only one.

What lives here: starting a build, what it may see of the archive, and throwing it away.
What doesn't: filling it (dbt does) and switching it in (`publish`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from event_archive import durable
from event_archive.errors import EventArchiveError, StorageError
from event_archive.warehouse import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

log = logging.getLogger(__name__)

_LOCK_POLL_SECONDS = 0.1


class WarehouseBusy(EventArchiveError):
    """Another process is building this warehouse; trying again when it has ended helps."""


class BuildMode(StrEnum):
    """How a build starts."""

    REFRESH = "refresh"
    """From a copy of the published file: incremental models go on from there."""
    REBUILD = "rebuild"
    """From an empty file: everything is computed again from the archive."""


@dataclass(frozen=True)
class PinnedStream:
    """What one build sees of one stream: the files of one version of its table, and no others.

    Attributes:
        version: Version of the archive table; -1 if nothing has been committed yet.
        files: Absolute paths of the Parquet files of that version.
        events: Number of events in them.
        chain_hash: SHA-256 of the log entry of that version, if known.
    """

    version: int
    files: tuple[str, ...]
    events: int
    chain_hash: str | None = None


class Build:
    """A build under way. Made by `start_build`; ends with `publish` or `discard`, or with the process.

    Attributes:
        build_id: Sortable name of the build.
        mode: How it was started.
        warehouse: The folder that it will be published in.
        file: The DuckDB file to fill; its database is called `current`, as for readers.
        streams: What it sees of the archive.
        started_at: When it was started, UTC.
        based_on: The build that was published when this one was started, or None.
    """

    def __init__(
        self,
        *,
        build_id: str,
        mode: BuildMode,
        warehouse: Path,
        streams: Mapping[str, PinnedStream],
        based_on: str | None,
        lock: int,
    ) -> None:
        self.build_id = build_id
        self.mode = mode
        self.warehouse = warehouse
        self.folder = layout.building_folder(warehouse) / build_id
        self.file = self.folder / layout.PUBLISHED_NAME
        self.snapshot_file = self.folder / "snapshot.json"
        self.streams = dict(streams)
        self.started_at = datetime.now(UTC)
        self.based_on = based_on
        self._lock: int | None = lock

    @property
    def is_open(self) -> bool:
        """Whether the build can still be filled and published."""
        return self._lock is not None

    def environment(self) -> dict[str, str]:
        """The environment variables by which dbt finds the file to fill and the archive files that it may see."""
        return {
            "EVENT_ARCHIVE_BUILD_FILE": str(self.file),
            "EVENT_ARCHIVE_SNAPSHOT": str(self.snapshot_file),
        }

    def holds_the_lock(self) -> bool:
        """Whether this build is still the only one: its lock is open and is the file that others would lock."""
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), (self.warehouse / layout.LOCK_NAME).stat())
        except FileNotFoundError:
            return False

    def discard(self, reason: str) -> None:
        """Throw the build away; what is published stays as it is. Does nothing if the build has ended already."""
        if self._lock is None:
            return
        log.warning(
            "Build %s of the warehouse is thrown away, the published tables stay: %s", self.build_id, reason
        )
        self.end()

    def end(self) -> None:
        """Remove what is left in the building folder and let the next build start."""
        if self._lock is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard(f"{kind.__name__}: {error}" if kind else "it was not published")


def start_build(
    warehouse: Path,
    *,
    mode: BuildMode | str,
    streams: Mapping[str, PinnedStream] | Callable[[], Mapping[str, PinnedStream]],
    wait_seconds: float = 0,
) -> Build:
    """Start a build beside the published one, and clear away what dead processes have left behind.

    Args:
        warehouse: Folder of the warehouse; made if it isn't there.
        mode: `refresh` starts from a copy of the published file (from an empty one if there is none), `rebuild` from an
            empty one.
        streams: What the build sees of each stream; written down beside it before anything else can read it. As a function
            it is asked once the build is the only one, so that a build that had to wait never sees less than the one before.
        wait_seconds: How long to wait for a build that is under way.

    Raises:
        WarehouseBusy: Another build of this warehouse is under way, still after the wait.
        StorageError: The folder can't be written, or the disk is full.
    """
    warehouse = warehouse.absolute()
    mode = BuildMode(mode)
    lock = _lock(warehouse, wait_seconds)
    build = None
    try:
        _clear_abandoned(warehouse)
        published = layout.current_build_id(warehouse)
        build = Build(
            build_id=layout.new_build_id(after=published),
            mode=mode,
            warehouse=warehouse,
            streams=streams() if callable(streams) else streams,
            based_on=published,
            lock=lock,
        )
        build.folder.mkdir(parents=True)
        build.snapshot_file.write_text(_snapshot_json(build), encoding="utf-8")
        base = layout.published_file(warehouse)
        if mode is BuildMode.REFRESH and base is not None:
            durable.copy_file(base, build.file)
    except OSError as error:
        _abort(build, lock)
        raise StorageError(
            f"No build of the warehouse {warehouse} could be started ({error.strerror or error}); "
            "what is published stays as it is. Make room or give write access, then run it again."
        ) from error
    except BaseException:
        _abort(build, lock)
        raise
    return build


def _abort(build: Build | None, lock: int) -> None:
    if build is None:
        os.close(lock)
    else:
        build.end()


def _lock(warehouse: Path, wait_seconds: float) -> int:
    """Take the warehouse's lock. The kernel lets go of it when the process ends, however it ends."""
    path = warehouse / layout.LOCK_NAME
    try:
        warehouse.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"The warehouse folder {warehouse} can't be written ({error.strerror}); give write access to it, "
            "or name another folder as `warehouse` in the configuration."
        ) from error
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if time.monotonic() < until:
                time.sleep(_LOCK_POLL_SECONDS)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise WarehouseBusy(
                f"Another build of the warehouse {warehouse} is under way ({holder or 'its process is not known'}); "
                "wait until it has ended, then run this again."
            ) from error
    # For people who wait; a full disk refuses it, and will tell by itself if it refuses the build.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        holder = f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n"
        os.pwrite(descriptor, holder.encode(), 0)
    return descriptor


def _clear_abandoned(warehouse: Path) -> None:
    """Remove what builds have left that neither published nor could clean up: the lock is ours, so none is alive."""
    for folder in sorted(layout.building_folder(warehouse).glob("*")):
        log.warning("Removing an abandoned build of the warehouse: %s", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    for beside in warehouse.glob(f".{layout.PUBLISHED_NAME}.*"):
        beside.unlink(missing_ok=True)
    published = layout.current_build_id(warehouse)
    for build_id in layout.published_build_ids(warehouse):
        # Moved into place, but killed before the switch: nobody has ever read it.
        if published is None or build_id > published:
            log.warning("Removing a build of the warehouse that was never switched in: %s", build_id)
            layout.build_file(warehouse, build_id).unlink(missing_ok=True)
            layout.snapshot_file(warehouse, build_id).unlink(missing_ok=True)
    for snapshot in layout.snapshot_files_without_build(warehouse):
        snapshot.unlink(missing_ok=True)


def _snapshot_json(build: Build) -> str:
    streams = {
        name: {
            "version": pinned.version,
            "events": pinned.events,
            "chain_hash": pinned.chain_hash,
            "files": list(pinned.files),
        }
        for name, pinned in sorted(build.streams.items())
    }
    return json.dumps({"build_id": build.build_id, "streams": streams}, indent=1) + "\n"
