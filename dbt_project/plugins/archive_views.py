"""How dbt meets the archive: one view per stream, over exactly the files of the pinned snapshot.

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

from event_archive.sql.views import archive_select

if TYPE_CHECKING:
    import duckdb

SNAPSHOT_VARIABLE = "EVENT_ARCHIVE_SNAPSHOT"

_STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class PinnedStream:
    """One stream as a build sees it: the version of its table and the files of that version, by absolute path."""

    version: int
    files: tuple[str, ...]


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
        snapshot[name] = PinnedStream(version=int(stream["version"]), files=tuple(stream["files"]))
    return snapshot


def create_views(connection: duckdb.DuckDBPyConnection, snapshot: dict[str, PinnedStream]) -> None:
    """Attach the database `event_archive` with `archive.<stream>` per stream and `archive.pinned_snapshot`.

    Args:
        connection: dbt's connection to the build file.
        snapshot: What the build sees; a stream without files becomes an empty view.
    """
    connection.execute("attach if not exists ':memory:' as event_archive")
    connection.execute("create schema if not exists event_archive.archive")
    connection.execute(
        "create or replace table event_archive.archive.pinned_snapshot (stream varchar, version bigint)"
    )
    for name, stream in sorted(snapshot.items()):
        select = archive_select(stream.files, with_payload=True)
        connection.execute(f"create or replace view event_archive.archive.{name} as {select}")
        connection.execute(
            "insert into event_archive.archive.pinned_snapshot values (?, ?)", [name, stream.version]
        )


class Plugin(BasePlugin):
    """What dbt-duckdb loads; `profiles.yml` names this module."""

    def configure_connection(self, conn: Any) -> None:
        """Make the views, once per process; every cursor of the connection sees them.

        Without a snapshot in the environment there are none: parsing and documenting the project need no archive.
        """
        path = os.environ.get(SNAPSHOT_VARIABLE)
        if path:
            create_views(conn, read_snapshot(Path(path)))
