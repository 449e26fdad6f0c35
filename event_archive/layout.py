"""The only place that names paths inside an archive.

An archive is a folder with one Delta table per stream. Nothing here touches the disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from event_archive.errors import ArchiveDamaged

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
LOG_FOLDER = "_delta_log"
_DATA_FILE_NAME = re.compile(r"/commit-([0-9]{20})-[0-9a-f]+\.parquet$")
_ENTRY_NAME = re.compile(r"([0-9]{20})\.json")


def table_folder(archive: Path, stream: str) -> Path:
    """Folder of the Delta table of `stream`.

    Raises:
        ValueError: the name is no stream name; configuration refuses it earlier, with its key.
    """
    if not STREAM_NAME.fullmatch(stream):
        raise ValueError(f"not a stream name: {stream!r}")
    return archive / stream


def entry_name(version: int) -> str:
    """File name of the log entry of a commit, after the Delta protocol."""
    return f"{version:020d}.json"


def entry_version(name: str) -> int | None:
    """Version of the commit whose log entry has this file name, None for other files."""
    match = _ENTRY_NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def pending_entry_name(token: str) -> str:
    """Name of a log entry that is being written; Delta's readers ignore it."""
    return f"_commit_{token}.json.tmp"


def data_file_name(ingest_date: dt.date, version: int, token: str) -> str:
    """Path, relative to the table, of the data file that commit `version` brings."""
    return f"ingest_date={ingest_date.isoformat()}/commit-{version:020d}-{token}.parquet"


def data_file_version(path: str) -> int | None:
    """Version of the commit that a data file was written for, None for other files."""
    match = _DATA_FILE_NAME.search(path)
    return int(match.group(1)) if match else None


def resolve_data_file(table: Path, logged_path: str) -> Path:
    """Path of a data file that the log names.

    Raises:
        ArchiveDamaged: the path is absolute, or leads out of the table.
    """
    path = unquote(logged_path)
    parts = path.split("/")
    if "\0" in path or "\\" in path or ":" in path or any(part in ("", ".", "..") for part in parts):
        raise ArchiveDamaged(
            f"{table}: the log names the file {logged_path!r}, which is not a path inside the table."
        )
    return table.joinpath(*parts)
