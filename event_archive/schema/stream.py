"""The schema of a stream: from the configuration to what its payloads say, by one snapshot of the archive.

What doesn't live here: counting (`scan`), and events that aren't archived yet (`sample_file`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

import duckdb

from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import ArchiveDamaged, StorageError, UsageError
from event_archive.schema import summary
from event_archive.schema.drift import drift
from event_archive.schema.expressions import json_path, keys_of
from event_archive.schema.model import StreamSchema
from event_archive.schema.scan import DEEPEST, OTHER_TYPES, Asked, Scanned, scan
from event_archive.sql.statements import first_line
from event_archive.sql.views import quote_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from event_archive.config import Config

_MEMORY_SHARE = 0.4
_SPILLED_AT_MOST = "50GB"
_PREFIX = "event-archive-schema-"


def stream_schema(
    config: Config,
    stream: str,
    asked: Asked,
    *,
    with_days: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> StreamSchema:
    """What the archived payloads of a stream say.

    Args:
        config: The configuration.
        stream: A stream of it.
        asked: What to look at.
        with_days: Whether to say it per day too.
        on_progress: Called with the events looked at so far, and all.

    Raises:
        UsageError: The stream isn't configured, or a path is none.
        ArchiveDamaged: The log, or a file that it names, can't be read.
    """
    config.stream(stream)
    check_asked(asked)
    snapshot = read_snapshot(config.table(stream))
    with scratch() as connection:
        return schema_of_files(
            connection,
            stream,
            snapshot.version,
            snapshot.file_paths(),
            asked,
            with_days=with_days,
            on_progress=on_progress,
        )


def check_asked(asked: Asked) -> None:
    """Refuses paths that name no one value.

    Raises:
        UsageError: A path is none, or leads into lists.
    """
    for path in (asked.type_field, asked.time_field):
        if path is None:
            continue
        try:
            json_path(keys_of(path))
        except ValueError as error:
            raise UsageError(f"{path!r}: {error}.") from error


@contextlib.contextmanager
def scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in memory that spills into a temporary folder of its own, which goes with it."""
    memory_mib = int(_MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) // 2**20
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        connection = duckdb.connect(config={"memory_limit": f"{memory_mib}MiB"})
        try:
            # Set here and in this order: given to connect(), nothing is bounded by the size.
            connection.execute(f"set temp_directory = {quote_text(folder)}")
            connection.execute(f"set max_temp_directory_size = {quote_text(_SPILLED_AT_MOST)}")
            connection.execute("set timezone = 'UTC'")
            connection.execute("set preserve_insertion_order = false")
            connection.execute("set enable_progress_bar = false")
            connection.execute("set python_enable_replacements = false")
            yield connection
        finally:
            connection.close()


def schema_of_files(
    connection: duckdb.DuckDBPyConnection,
    stream: str,
    version: int,
    files: Sequence[str],
    asked: Asked,
    *,
    with_days: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> StreamSchema:
    """What the payloads in Parquet files say, which are in the columns of the envelope; see `stream_schema`.

    Raises:
        ArchiveDamaged: A file can't be read.
    """
    try:
        of_events = sum(
            int(rows)
            for start in range(0, len(files), _FOOTERS_AT_ONCE)
            for (rows,) in connection.execute(
                f"select num_rows from parquet_file_metadata([{_quoted(files[start : start + _FOOTERS_AT_ONCE])}])"
            ).fetchall()
        )
        scanned = scan(connection, files, of_events, asked, on_progress)
    except duckdb.OutOfMemoryException as error:
        raise StorageError(
            f"The payloads of {stream} take more memory and temporary disk space than there is ({first_line(error)}); "
            "make room in the temporary folder, or look at some with --sample."
        ) from error
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        if _PREFIX in str(error):
            raise StorageError(
                f"The temporary folder {tempfile.gettempdir()} can't be used: {first_line(error)}; make room in it, or name another as TMPDIR."
            ) from error
        raise ArchiveDamaged(
            f"Stream {stream} can't be read: {first_line(error)}; run `event-archive verify {stream}` to see what is damaged."
        ) from error
    known = summary.totals(connection)
    paths = summary.paths(connection, known)
    events = sum(known.states.values())
    return StreamSchema(
        stream=stream,
        version=version,
        events=events,
        of_events=of_events,
        json_events=known.json_events,
        not_json=known.states.get("not_json", 0),
        not_utf8=known.states.get("not_utf8", 0),
        null_values=known.states.get("null_value", 0),
        type_field=asked.type_field if known.types else None,
        types=known.types,
        paths=paths,
        days=summary.days(connection) if with_days else (),
        drift=tuple(drift(connection, paths, by_day=asked.time_field is not None)),
        notes=tuple(_notes(scanned, asked, known)),
    )


_FOOTERS_AT_ONCE = 500


def _quoted(files: Sequence[str]) -> str:
    from event_archive.sql.views import exact_path

    return ", ".join(quote_text(exact_path(path)) for path in files)


def _notes(scanned: Scanned, asked: Asked, known: summary.Totals) -> Iterator[str]:
    for path in scanned.wide:
        child = "*" if path == "$" else f"{path}.*"
        text = f"{child} stands for the keys of {'the payload' if path == '$' else path} that are too many, or too rare, to be names of fields"
        if path in scanned.late:
            text += "; some were found late and are listed by themselves too"
        yield text
    if scanned.deeper:
        yield f"{scanned.deeper:,} objects and lists lie deeper than {DEEPEST} levels and were not looked into"
    if OTHER_TYPES in known.types:
        yield f"{asked.type_field} has too many values; {OTHER_TYPES} are the rest: is it the field that tells types of events apart?"
