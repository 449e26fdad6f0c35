"""A query over the archive and the published tables: from the configuration to printed rows.

What doesn't live here: what a query may do (`sql.sandbox`, `sql.statements`) and how rows are printed (`sql.output`).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from event_archive.archive.snapshot import read_snapshot
from event_archive.sql.limits import limit_process_memory
from event_archive.sql.output import Format, run
from event_archive.sql.sandbox import close, connect
from event_archive.warehouse import published_file

if TYPE_CHECKING:
    from event_archive.config import Config

_GIGABYTE = 2**30
_LARGEST_SHARE = 0.5
_BESIDE_THE_ENGINE_BYTES = 2 * _GIGABYTE
"""What Python, Arrow and a batch of results may take beside DuckDB's own memory limit."""


def run_query(config: Config, query: str, output_format: Format) -> int:
    """Runs one reading statement and prints its rows on stdout; to be called in the main thread of a process of its own.

    The process is limited for good: it can't write files any more, and its memory is bounded.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        QueryRefused: the query is not one reading statement.
        UsageError: it failed.
        ArchiveDamaged: the log of a stream can't be read.
        StorageError: a file can't be opened.
    """
    streams = {name: _files(config, name, query) for name in config.streams}
    memory_bytes = int(
        max(_GIGABYTE, _LARGEST_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    )
    limit_process_memory(memory_bytes + _BESIDE_THE_ENGINE_BYTES)
    connection = connect(
        streams,
        published_file(config.warehouse),
        memory_limit=f"{memory_bytes // 2**20}MiB",
        lock_process=True,
    )
    try:
        return run(connection, query, output_format, sys.stdout.buffer)
    finally:
        close(connection)


def _files(config: Config, stream: str, query: str) -> list[str]:
    """Files that a query may read of a stream: none of a far place unless the query names the stream."""
    table = config.table(stream)
    # SQL has no way to name a stream but by its letters; without them, an empty view is as good as a full one.
    if table.is_far and stream not in query.lower():
        return []
    return read_snapshot(table).file_paths()
