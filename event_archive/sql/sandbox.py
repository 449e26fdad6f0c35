"""The DuckDB connection that an analyst's query runs in: it sees the archive and the published marts, and can change nothing.

Three locks, each meant to hold alone as far as it can:

1. `check` (in `statements`) lets only one reading statement through, of relations that are listed here.
2. The connection (here) has external access switched off and its configuration locked; only the files of the views can be opened.
   Alone it can't refuse: a COPY … TO over one of those very files, or into its temporary folder; reading one of those files
   directly; the warehouse's other schemas; and everything in memory (CREATE, DROP, DETACH), which ends with the connection.
3. `forbid_writes` (in `limits`) has the Linux kernel refuse every write outside of the temporary folder, where it can.

What doesn't live here: which files belong to a stream, and how results are written (`output`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from event_archive.errors import ArchiveDamaged, StorageError
from event_archive.sql.limits import forbid_writes
from event_archive.sql.statements import check, first_line
from event_archive.sql.syntax_tree import WAREHOUSE
from event_archive.sql.views import archive_select, exact_path, quote_name, quote_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check", "close", "connect", "remove_temporary_files"]

# The private folder of each connection, with what removes it.
_PRIVATE: weakref.WeakKeyDictionary[
    duckdb.DuckDBPyConnection, weakref.finalize[..., duckdb.DuckDBPyConnection]
] = weakref.WeakKeyDictionary()

_PREFIX = "event-archive-sql-"
_SECONDS_TO_LOCK = 10
_LOCKS = (
    "set python_enable_replacements = false",  # else a Python variable is a table
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set allow_community_extensions = false",
    "set allow_persistent_secrets = false",
    "set enable_progress_bar = false",  # it would be mixed with the result
    "set timezone = 'UTC'",  # one answer, whatever machine asks
    "set arrow_large_buffer_size = true",  # a batch of texts may be larger than 2 GB
    "set enable_external_access = false",
    "set lock_configuration = true",
)


def connect(
    streams: Mapping[str, Sequence[str]],
    warehouse: Path | None,
    *,
    memory_limit: str = "2GB",
    threads: int | None = None,
    temp_directory: Path | None = None,
    max_temp_directory_size: str = "20GB",
    lock_process: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that sees the archive's streams and the published marts, and lock it.

    Args:
        streams: Absolute paths of the committed Parquet files of each stream; a view `archive.<stream>` shows them, `payload` included.
        warehouse: The published DuckDB file; a view in schema `main` shows each table and view of its schema `main`, its other
            schemas stay unseen. None: no marts.
        memory_limit: What DuckDB may hold in memory, such as `2GB`; it spills what it can beyond that.
        threads: How many threads DuckDB uses. None: one per core.
        temp_directory: An existing folder in which a private one is made for spilling. None: the system's temporary folder.
        max_temp_directory_size: How much may be spilled.
        lock_process: Whether to have the kernel refuse the whole process, for good, to change any file that it hasn't open yet; see
            `limits.forbid_writes`. For a process that does nothing else, and before it has used DuckDB.

    Returns:
        The connection, to be closed with `close`. Its private folder is removed then, at the latest when the interpreter ends.

    Raises:
        ArchiveDamaged: A committed file of a stream can't be opened.
        StorageError: The published warehouse can't be opened, or the temporary folder not be used.
        UsageError: A path that DuckDB can't open; see `views.exact_path`.
    """
    parent = Path(temp_directory or tempfile.gettempdir())
    try:
        private = _private_folder(parent)
    except OSError as error:
        raise StorageError(f"The temporary folder {parent} can't be used: {error.strerror}.") from error
    try:
        if lock_process:
            forbid_writes(private.path)
        # Given here and not set later: the file system is never asked for ~/.duckdb.
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "home_directory": str(private.path),
            "extension_directory": str(private.path / "extensions"),
            "secret_directory": str(private.path / "secrets"),
        }
        if threads is not None:
            config["threads"] = threads
        connection = duckdb.connect(":memory:", config=config)
    except BaseException:
        private.remove()
        raise
    _PRIVATE[connection] = weakref.finalize(connection, private.remove)
    try:
        # Set here and in this order: given to connect(), the size is shown as set, but nothing is bounded by it.
        connection.execute(f"set temp_directory = {quote_text(str(private.path / 'spill'))}")
        connection.execute(f"set max_temp_directory_size = {quote_text(max_temp_directory_size)}")
        if warehouse is not None:
            _show_warehouse(connection, warehouse)
        _show_streams(connection, streams)
        for lock in _LOCKS:
            connection.execute(lock)
    except BaseException:
        close(connection)
        raise
    return connection


@dataclass(frozen=True)
class _PrivateFolder:
    """A folder of this process alone. Its lock is held as long as the process lives, however that ends."""

    path: Path
    lock: int

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _private_folder(parent: Path) -> _PrivateFolder:
    """Make a private folder, after removing those whose process was killed: what they spilled may fill the disk."""
    for abandoned in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            # Not one that is just being made, between its creation and its lock.
            if time.time() - abandoned.stat().st_mtime < _SECONDS_TO_LOCK:
                continue
            lock = os.open(abandoned, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(abandoned, ignore_errors=True)
            finally:
                os.close(lock)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return _PrivateFolder(path, lock)


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close a connection of `connect`, and remove what it has spilled.

    Args:
        connection: The connection; no query runs on it.
    """
    connection.close()
    remove_temporary_files(connection)


def remove_temporary_files(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the private folder of a connection of `connect`, even while a query still runs on it.

    Args:
        connection: The connection, which can't spill any more after it.
    """
    remove = _PRIVATE.get(connection)
    if remove is not None:
        remove()


def _show_warehouse(connection: duckdb.DuckDBPyConnection, warehouse: Path) -> None:
    """Create a view in `main` for each relation of the warehouse's schema `main`."""
    # Resolved once: another build may be published between the two times that it is attached.
    path = quote_text(str(warehouse.resolve()))
    try:
        connection.execute(f"attach {path} as {WAREHOUSE} (read_only)")
        relations = connection.execute(
            "select table_name from information_schema.tables where table_catalog = ? and table_schema = 'main'",
            [WAREHOUSE],
        ).fetchall()
        connection.execute(f"detach {WAREHOUSE}")
        # Hidden: no catalog lists it, so that information_schema and SHOW show an analyst exactly what can be read.
        connection.execute(f"attach {path} as {WAREHOUSE} (read_only, hidden)")
        for (name,) in relations:
            connection.execute(
                f"create view main.{quote_name(name)} as select * from {WAREHOUSE}.main.{quote_name(name)}"
            )
    except duckdb.Error as error:
        raise StorageError(
            f"The published warehouse {warehouse} can't be read: {first_line(error)}"
        ) from error


def _show_streams(connection: duckdb.DuckDBPyConnection, streams: Mapping[str, Sequence[str]]) -> None:
    """Create a view in `archive` for each stream, and allow exactly their files."""
    connection.execute("create schema archive")
    for stream, files in streams.items():
        try:
            connection.execute(
                f"create view archive.{quote_name(stream)} as {archive_select(files, with_payload=True)}"
            )
        except duckdb.Error as error:
            raise ArchiveDamaged(
                f"Stream {stream} can't be read: {first_line(error)}; run `event-archive verify {stream}` to see what is damaged."
            ) from error
    files_of_all = {path for files in streams.values() for path in files}
    # Both spellings: DuckDB checks the pattern before it looks for files, and then each file.
    connection.execute(
        "set allowed_paths = ?", [sorted(files_of_all | {exact_path(path) for path in files_of_all})]
    )
