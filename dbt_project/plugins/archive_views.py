"""How dbt meets the archive and its build: views over the pinned snapshot's files, the file to fill, bounds on memory and disk.

What doesn't live here: choosing the snapshot (`event_archive.warehouse` writes it before dbt starts) and every transformation
(the models).

The views are in a database of their own, `event_archive`, that is held in memory: all of dbt's threads see it, and nothing of it
gets into the build file. Never a glob: it would see files that are half-written, replaced or abandoned.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin

from event_archive.sql.views import archive_select, quote_text

if TYPE_CHECKING:
    import duckdb

SNAPSHOT_VARIABLE = "EVENT_ARCHIVE_SNAPSHOT"
BUILD_FILE_VARIABLE = "EVENT_ARCHIVE_BUILD_FILE"
# In this order: the bound of a folder for spilled data holds only once the folder is named.
LIMITS = {
    "EVENT_ARCHIVE_THREADS": "threads",
    "EVENT_ARCHIVE_MEMORY": "memory_limit",
    "EVENT_ARCHIVE_SPILL": "temp_directory",
    "EVENT_ARCHIVE_MAX_SPILL": "max_temp_directory_size",
}

_STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class PinnedStream:
    """One stream as a build sees it.

    Attributes:
        version: The commit up to which it is seen.
        files: Its files, by absolute path.
        holds_later: Whether those files also hold events of later commits, which the build must not see.
        recent_from: Commits beyond this one are in `recent_files`; -1: all files are recent.
        recent_files: The files that hold anything of a commit beyond `recent_from`.
    """

    version: int
    files: tuple[str, ...]
    holds_later: bool
    recent_from: int
    recent_files: tuple[str, ...]


def read_snapshot(path: Path) -> dict[str, PinnedStream]:
    """Read which version and files of each stream this build sees.

    Args:
        path: The JSON file that `event_archive.warehouse` has written.

    Raises:
        ValueError: The file isn't such a snapshot, or names a stream that can't be one.
    """
    snapshot: dict[str, PinnedStream] = {}
    for name, stream in json.loads(path.read_text(encoding="utf-8"))["streams"].items():
        if not _STREAM_NAME.fullmatch(name):
            raise ValueError(f"{path} names a stream {name!r}; names are {_STREAM_NAME.pattern}")
        recent = stream.get("recent") or {"from": -1, "files": stream["files"]}
        snapshot[name] = PinnedStream(
            version=int(stream["version"]),
            files=tuple(stream["files"]),
            holds_later=bool(stream.get("holds_later")),
            recent_from=int(recent["from"]),
            recent_files=tuple(recent["files"]),
        )
    return snapshot


def create_views(connection: duckdb.DuckDBPyConnection, snapshot: dict[str, PinnedStream]) -> None:
    """Attach the database `event_archive`: `archive.<stream>`, `recent.<stream>`, and `archive.pinned_snapshot`.

    `recent` is for those who have consumed a stream up to `recent_from`: files that hold nothing beyond it aren't opened for them.

    Args:
        connection: dbt's connection to the build file.
        snapshot: What the build sees; a stream without files becomes an empty view.
    """
    connection.execute("attach if not exists ':memory:' as event_archive")
    for schema in ("archive", "recent"):
        connection.execute(f"create schema if not exists event_archive.{schema}")
    connection.execute(
        "create or replace table event_archive.archive.pinned_snapshot "
        "(stream varchar, version bigint, recent_from bigint)"
    )
    for name, stream in sorted(snapshot.items()):
        # A view opens its first file when it is made, for the columns: one that is opened anyway.
        recent = dict.fromkeys(stream.recent_files)
        every = (*recent, *(file for file in stream.files if file not in recent))
        for schema, files in (("archive", every), ("recent", stream.recent_files)):
            select = archive_select(files, with_payload=True)
            if stream.holds_later:
                select = f"select * from ({select}) where commit_version <= {stream.version}"
            connection.execute(f"create or replace view event_archive.{schema}.{name} as {select}")
        connection.execute(
            "insert into event_archive.archive.pinned_snapshot values (?, ?, ?)",
            [name, stream.version, stream.recent_from],
        )


def set_limits(connection: duckdb.DuckDBPyConnection) -> None:
    """Bound what DuckDB takes of memory and disk, as far as the environment says so."""
    for variable, setting in LIMITS.items():
        if value := os.environ.get(variable):
            connection.execute(f"set {setting} = {quote_text(value)}")
    # A checkpoint makes every other model wait; the build's end has one.
    connection.execute("set checkpoint_threshold = '1 GB'")


class Plugin(BasePlugin):
    """What dbt-duckdb loads; `profiles.yml` names this module."""

    def update_connection_config(self, creds: Any, config: dict[str, Any]) -> None:  # noqa: ARG002 - dbt-duckdb's signature
        """Point the connection at the build's file.

        Not in the profile: dbt takes another path for another project, and parses all of it again.
        """
        if file := os.environ.get(BUILD_FILE_VARIABLE):
            creds.path = file

    def configure_connection(self, conn: Any) -> None:
        """Make the views and set the limits, once per process; every cursor of the connection has them.

        Without a snapshot in the environment there are none: parsing and documenting the project need no archive.
        """
        set_limits(conn)
        path = os.environ.get(SNAPSHOT_VARIABLE)
        if path:
            create_views(conn, read_snapshot(Path(path)))
