"""Publishing a build: write down what it is, make it durable, switch it in, keep a few older ones.

What doesn't live here: whether the build may be published; whoever has run the checks decides that.

The steps, each safe to be killed after: records and CHECKPOINT in the build's file → fsync → move into `builds/` → fsync →
switch the link → fsync → remove the oldest. Until the switch, readers see the older build; after it, the new one.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from event_archive import __version__, durable
from event_archive.errors import EventArchiveError, StorageError
from event_archive.warehouse import layout
from event_archive.warehouse.digest import TableDigest, quoted, table_digest

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.warehouse.build import Build

log = logging.getLogger(__name__)

KEPT_BUILDS = 3
"""How many builds stay on disk, the published one included."""

RECORDS = ("build_info", "build_streams", "build_marts")
"""Tables in schema `main` by which a build says what it is."""


class BuildSuperseded(EventArchiveError):
    """The build started from a state that is no longer the published one; it has to be run again."""


class BuildUnreadable(EventArchiveError):
    """A file of the warehouse can't be read; a rebuild makes a new one, since nothing is kept there alone."""


class MartUnreadable(EventArchiveError):
    """A mart reads something that is not in the build's own file, such as the archive."""


@dataclass(frozen=True)
class MartRecord:
    """One mart as it was published: its rows, and their digest (equal exactly if the rows are)."""

    mart: str
    rows: int
    digest: str


@dataclass(frozen=True)
class PublishedBuild:
    """What is published.

    Attributes:
        build_id: Name of the build.
        file: Its DuckDB file.
        snapshot_file: The file that lists which archive files it was computed from.
        mode: `refresh` or `rebuild`.
        built_by: Who or what built it.
        started_at: UTC.
        finished_at: UTC.
        versions: Version of each stream's archive table that it holds.
        marts: Each mart's rows and digest.
    """

    build_id: str
    file: Path
    snapshot_file: Path
    mode: str
    built_by: str
    started_at: datetime
    finished_at: datetime
    versions: dict[str, int]
    marts: tuple[MartRecord, ...]


def publish(build: Build, *, built_by: str, keep: int = KEPT_BUILDS) -> PublishedBuild:
    """Make a build the published one, for whoever opens the warehouse from now on; older readers go on undisturbed.

    If it fails, the build is thrown away and what was published stays.

    Args:
        build: A build whose tables are complete and checked.
        built_by: Who or what built it, for `build_info`.
        keep: How many builds stay on disk, this one included.

    Raises:
        BuildSuperseded: Another build has been published since this one was started.
        StorageError: The disk is full or refused.
    """
    if keep < 1:
        raise ValueError("At least the published build has to be kept")
    try:
        _refuse_if_superseded(build)
        _write_records(build, built_by)
        file = _move_into_place(build)
        # Asked again, as late as possible: hashing the marts above may have taken minutes.
        _refuse_if_superseded(build)
        durable.switch_link(layout.current_link(build.warehouse), f"builds/{file.name}")
    except (OSError, duckdb.Error) as error:
        _withdraw(build, str(error))
        raise StorageError(
            f"Build {build.build_id} could not be published ({error}); what was published stays as it is. "
            "Make room on the disk or give write access, then run it again."
        ) from error
    except BaseException as error:
        _withdraw(build, str(error))
        raise
    build.end()
    _remove_oldest(build.warehouse, keep)
    return read_build(file)


def read_published(warehouse: Path) -> PublishedBuild | None:
    """Read what is published in a warehouse; None if nothing has been yet.

    Raises:
        BuildUnreadable: The published file is damaged.
    """
    file = layout.published_file(warehouse)
    return None if file is None else read_build(file)


def read_build(file: Path) -> PublishedBuild:
    """Read what a published build says about itself.

    Args:
        file: The build's file.

    Raises:
        BuildUnreadable: The file is no build of a warehouse, or is damaged.
    """
    try:
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            connection.execute("set timezone = 'UTC'")
            info = connection.execute(
                "select build_id, mode, built_by, started_at::timestamp, finished_at::timestamp from main.build_info"
            ).fetchall()
            streams = connection.execute(
                "select stream, version from main.build_streams order by stream"
            ).fetchall()
            marts = connection.execute(
                "select mart, rows, digest from main.build_marts order by mart"
            ).fetchall()
    except duckdb.Error as error:
        raise BuildUnreadable(
            f"{file} is no readable build of the warehouse ({error}); run a rebuild: it makes every table again from the archive."
        ) from error
    build_id, mode, built_by, started_at, finished_at = info[0]
    return PublishedBuild(
        build_id=build_id,
        file=file,
        snapshot_file=file.with_name(f"{build_id}.snapshot.json"),
        mode=mode,
        built_by=built_by,
        started_at=started_at.replace(tzinfo=UTC),
        finished_at=finished_at.replace(tzinfo=UTC),
        versions=dict(streams),
        marts=tuple(MartRecord(*mart) for mart in marts),
    )


def _refuse_if_superseded(build: Build) -> None:
    published = layout.current_build_id(build.warehouse)
    if published != build.based_on or not build.holds_the_lock():
        raise BuildSuperseded(
            f"Build {build.build_id} started from {build.based_on or 'an empty warehouse'}, but {published or 'nothing'} is "
            "published now or its lock is gone; it is not published. Run it again."
        )
    link = layout.current_link(build.warehouse)
    if link.exists() and not link.is_symlink():
        raise StorageError(
            f"{link} is a file, not the link that this warehouse makes; move it away, then run the build again."
        )


def _write_records(build: Build, built_by: str) -> None:
    with closing(duckdb.connect(str(build.file))) as connection:
        connection.execute("set timezone = 'UTC'")
        marts = _digests(connection)
        for record in RECORDS:
            connection.execute(f"drop table if exists main.{quoted(record)}")
        connection.execute(
            "create table main.build_info (build_id varchar, mode varchar, built_by varchar, project_version varchar, "
            "based_on varchar, started_at timestamptz, finished_at timestamptz)"
        )
        connection.execute(
            "create table main.build_streams (stream varchar, version bigint, events bigint, files bigint, chain_hash varchar)"
        )
        connection.execute("create table main.build_marts (mart varchar, rows bigint, digest varchar)")
        for name, pinned in sorted(build.streams.items()):
            connection.execute(
                "insert into main.build_streams values (?, ?, ?, ?, ?)",
                [name, pinned.version, pinned.events, len(pinned.files), pinned.chain_hash],
            )
        for table, counted in marts:
            connection.execute(
                "insert into main.build_marts values (?, ?, ?)", [table, counted.rows, counted.digest]
            )
        connection.execute(
            "insert into main.build_info values (?, ?, ?, ?, ?, ?, ?)",
            [
                build.build_id,
                str(build.mode),
                built_by,
                __version__,
                build.based_on,
                build.started_at,
                datetime.now(UTC),
            ],
        )
        connection.execute("checkpoint")
    left = build.file.with_name(build.file.name + ".wal")
    if left.exists():
        raise StorageError(
            f"DuckDB left {left} behind: another process has build {build.build_id} open. Close it, then run the build again."
        )


def _digests(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, TableDigest]]:
    """Digest every table and view in schema `main`: what is published must be readable without anything beside it."""
    names = connection.execute(
        "select table_name from information_schema.tables "
        "where table_catalog = current_database() and table_schema = 'main' and not list_contains(?, table_name) order by 1",
        [list(RECORDS)],
    ).fetchall()
    marts = []
    for (name,) in names:
        try:
            marts.append((name, table_digest(connection, "main", name)))
        except duckdb.CatalogException as error:
            raise MartUnreadable(
                f"The mart {name} could not be read by those who open the published file ({error}); nothing is published. "
                "A view in schema main may read only what is in the same file."
            ) from error
    return marts


def _move_into_place(build: Build) -> Path:
    file = layout.build_file(build.warehouse, build.build_id)
    snapshot = layout.snapshot_file(build.warehouse, build.build_id)
    file.parent.mkdir(exist_ok=True)
    build.file.chmod(0o444)  # a published build is never written again, by nobody
    durable.sync(build.file)
    durable.sync(build.snapshot_file)
    build.snapshot_file.rename(snapshot)
    build.file.rename(file)
    durable.sync(file.parent)
    return file


def _withdraw(build: Build, reason: str) -> None:
    if layout.current_build_id(build.warehouse) != build.build_id:
        layout.build_file(build.warehouse, build.build_id).unlink(missing_ok=True)
        layout.snapshot_file(build.warehouse, build.build_id).unlink(missing_ok=True)
    build.discard(reason)


def _remove_oldest(warehouse: Path, keep: int) -> None:
    """Remove all but the newest builds. Who has one of them open reads on: a removed file lives until it is closed."""
    for build_id in layout.published_build_ids(warehouse)[:-keep]:
        try:
            layout.build_file(warehouse, build_id).unlink(missing_ok=True)
            layout.snapshot_file(warehouse, build_id).unlink(missing_ok=True)
        except OSError as error:  # the new build is published all the same; the next one tries again
            log.warning("An old build of the warehouse could not be removed: %s", error)
