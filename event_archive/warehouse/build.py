"""A build of the warehouse: a new DuckDB file beside the published one, and the lock that makes it the only one.

What lives here: starting a build, what it may see of the archive, and throwing it away.
What doesn't: filling it (dbt does), finishing it (`finish`) and switching it in (`publish`).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from event_archive import durable
from event_archive.errors import StorageError
from event_archive.warehouse import layout
from event_archive.warehouse.lock import is_the_lock, take_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from event_archive.warehouse.record import BuildRecord

log = logging.getLogger(__name__)


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
        files: Absolute paths of Parquet files that hold all events of that version.
        events: Number of those events.
        chain_hash: SHA-256 of the log entry of that version, if known.
        last_commits: Of each file, the newest commit that it holds events of.
    """

    version: int
    files: tuple[str, ...]
    events: int
    chain_hash: str | None = None
    last_commits: tuple[int, ...] = ()

    @property
    def holds_later(self) -> bool:
        """Whether the files hold events of later commits too: a compaction has put them together since."""
        return any(commit > self.version for commit in self.last_commits)

    def files_beyond(self, commit: int) -> tuple[str, ...]:
        """The files that hold events of commits after `commit`."""
        if not self.last_commits:
            return self.files
        return tuple(file for file, last in zip(self.files, self.last_commits, strict=True) if last > commit)


class Build:
    """A build under way. Made by `start_build`; ends with `publish` or `discard`, or with the process.

    One that is finished (`finish`) but not switched in when it ends is kept: it waits to be published.

    Attributes:
        build_id: Sortable name of the build.
        mode: How it was started.
        warehouse: The folder that it will be published in.
        file: The DuckDB file to fill; its database is called `current`, as for readers.
        streams: What it sees of the archive.
        started_at: When it was started, UTC.
        based_on: The build that was published when this one was started, or None.
        record: What it is made of, once it is finished.
        limits: Settings of DuckDB by which this process works on its file.
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
        self.record: BuildRecord | None = None
        self.limits: Mapping[str, str] = {}
        self._lock: int | None = lock

    @property
    def is_open(self) -> bool:
        """Whether the build can still be filled and published."""
        return self._lock is not None

    def show_archive(self, recent_from: Mapping[str, int]) -> None:
        """Write down which files of the archive dbt is shown.

        Args:
            recent_from: For a stream, the commit up to which every model that reads it has consumed it; files that hold nothing
                beyond it needn't be opened for those.
        """
        self.snapshot_file.write_text(_snapshot_json(self, recent_from), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """The environment variables by which dbt finds the file to fill and the archive files that it may see."""
        return {
            "EVENT_ARCHIVE_BUILD_FILE": str(self.file),
            "EVENT_ARCHIVE_SNAPSHOT": str(self.snapshot_file),
        }

    def holds_the_lock(self) -> bool:
        """Whether this build is still the only one: its lock is open and is the file that others would lock."""
        return self._lock is not None and is_the_lock(self._lock, self.warehouse)

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
        if self.record is not None:
            self.end()
        else:
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
    lock = take_lock(warehouse, wait_seconds)
    build = None
    try:
        _clear_abandoned(warehouse)
        published = layout.current_build_id(warehouse)
        build = Build(
            build_id=layout.new_build_id(after=layout.newest_build_id(warehouse)),
            mode=mode,
            warehouse=warehouse,
            streams=streams() if callable(streams) else streams,
            based_on=published,
            lock=lock,
        )
        build.folder.mkdir(parents=True)
        build.show_archive({})
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


def _clear_abandoned(warehouse: Path) -> None:
    """Remove what builds have left that neither published nor could clean up: the lock is ours, so none is alive."""
    for folder in sorted(layout.building_folder(warehouse).glob("*")):
        log.warning("Removing an abandoned build of the warehouse: %s", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    for beside in warehouse.glob(f".{layout.PUBLISHED_NAME}.*"):
        beside.unlink(missing_ok=True)
    for pending in layout.pending_records(warehouse):
        pending.unlink(missing_ok=True)
    known = {*layout.build_ids_with_record(warehouse), layout.current_build_id(warehouse)}
    for build_id in layout.build_ids_with_file(warehouse):
        # Moved into place, but killed before its record was: it was never finished, and nobody has ever read it.
        if build_id not in known:
            log.warning("Removing a build of the warehouse that was never finished: %s", build_id)
            layout.build_file(warehouse, build_id).unlink(missing_ok=True)


def _snapshot_json(build: Build, recent_from: Mapping[str, int]) -> str:
    streams = {
        name: {
            "version": pinned.version,
            "events": pinned.events,
            "chain_hash": pinned.chain_hash,
            "files": list(pinned.files),
            "holds_later": pinned.holds_later,
            "recent": {
                "from": recent_from.get(name, -1),
                "files": list(pinned.files_beyond(recent_from.get(name, -1))),
            },
        }
        for name, pinned in sorted(build.streams.items())
    }
    return json.dumps({"build_id": build.build_id, "streams": streams}, indent=1) + "\n"
