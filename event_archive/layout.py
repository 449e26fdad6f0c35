"""The only place that names files inside an archive.

An archive holds one Delta table per stream, under the stream's name. Nothing here touches the disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from event_archive.errors import ArchiveDamaged

if TYPE_CHECKING:
    import datetime as dt

STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
LOG_FOLDER = "_delta_log"
LAST_CHECKPOINT = f"{LOG_FOLDER}/_last_checkpoint"
OWN_FOLDER = "_event_archive"
"""Beside Delta's log: sealed ranges of the log, and what the log adds up to. Delta's readers ignore it."""
_DATA_FILE_NAME = re.compile(r"/commit-([0-9]{20})-[0-9a-f]+\.parquet$")
_ENTRY_NAME = re.compile(r"([0-9]{20})\.json")
_SEGMENT_NAME = re.compile(r"entries-([0-9]{20})-([0-9]{20})-[0-9a-f]{16}\.zst")
_STATE_NAME = re.compile(r"state-([0-9]{20})-[0-9a-f]{16}\.json\.zst")
_CHECKPOINT_NAME = re.compile(r"([0-9]{20})\.checkpoint\.parquet")
_PENDING_NAME = re.compile(r"_commit_[0-9a-f]+\.json\.tmp")
_DATE_FOLDER = re.compile(r"ingest_date=([0-9]{4}-[0-9]{2}-[0-9]{2})/")


def check_stream_name(stream: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is no stream name; configuration refuses it earlier, with its key.
    """
    if not STREAM_NAME.fullmatch(stream):
        raise ValueError(f"not a stream name: {stream!r}")
    return stream


def entry_name(version: int) -> str:
    """Name of the log entry of a commit, after the Delta protocol."""
    return f"{LOG_FOLDER}/{version:020d}.json"


def entry_version(name: str) -> int | None:
    """Version of the commit whose log entry has this name inside the log folder, None for other files."""
    match = _ENTRY_NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def checkpoint_name(version: int) -> str:
    """Name of Delta's checkpoint of a version."""
    return f"{LOG_FOLDER}/{version:020d}.checkpoint.parquet"


def checkpoint_version(name: str) -> int | None:
    """Version of the checkpoint that has this name inside the log folder, None for other files."""
    match = _CHECKPOINT_NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def segment_name(first: int, last: int, sha256: str) -> str:
    """Name of a segment: the entries of these versions, sealed."""
    return f"{OWN_FOLDER}/entries-{first:020d}-{last:020d}-{sha256[:16]}.zst"


def segment_range(name: str) -> tuple[int, int] | None:
    """First and last version of the segment that has this name inside our folder, None for other files."""
    match = _SEGMENT_NAME.fullmatch(name)
    return (int(match.group(1)), int(match.group(2))) if match else None


def state_name(version: int, sha256: str) -> str:
    """Name of what the log up to a version adds up to."""
    return f"{OWN_FOLDER}/state-{version:020d}-{sha256[:16]}.json.zst"


def state_version(name: str) -> int | None:
    """Version of the state that has this name inside our folder, None for other files."""
    match = _STATE_NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def pending_name(token: str) -> str:
    """Name, in any folder, of a small file that is being written; Delta's readers ignore it."""
    return f"_commit_{token}.json.tmp"


def is_pending(name: str) -> bool:
    """Whether a file of this name (the last part) was being written, and was never finished if its writer is gone."""
    return _PENDING_NAME.fullmatch(name) is not None


def data_file_name(ingest_date: dt.date, version: int, token: str) -> str:
    """Name of the data file that commit `version` brings."""
    return f"ingest_date={ingest_date.isoformat()}/commit-{version:020d}-{token}.parquet"


def compacted_file_name(ingest_date: str, token: str) -> str:
    """Name of a data file that takes the place of several; `ingest_date` as in ISO 8601."""
    return f"ingest_date={ingest_date}/compacted-{token}.parquet"


def data_file_version(name: str) -> int | None:
    """Version of the commit that a data file was written for, None for other files."""
    match = _DATA_FILE_NAME.search(name)
    return int(match.group(1)) if match else None


def is_data_file(name: str) -> bool:
    """Whether a file of this name lies where data files lie."""
    return name.endswith(".parquet") and _DATE_FOLDER.match(name) is not None


def is_date_folder(name: str) -> bool:
    """Whether a folder of this name holds data files."""
    return _DATE_FOLDER.match(f"{name}/") is not None


def ingest_date_of(name: str) -> str:
    """The partition that a data file lies in, in ISO 8601.

    Raises:
        ArchiveDamaged: the name has no partition.
    """
    match = _DATE_FOLDER.match(name)
    if match is None:
        raise ArchiveDamaged(f"the log names the data file {name!r}, which lies in no partition.")
    return match.group(1)


def checked_data_file(logged_path: str, table: str) -> str:
    """Name of a data file that the log names.

    Args:
        logged_path: as it stands in the log.
        table: the table as a person would write it.

    Raises:
        ArchiveDamaged: the path is absolute, or leads out of the table.
    """
    path = unquote(logged_path)
    parts = path.split("/")
    if "\0" in path or "\\" in path or ":" in path or any(part in ("", ".", "..") for part in parts):
        raise ArchiveDamaged(
            f"{table}: the log names the file {logged_path!r}, which is not a path inside the table."
        )
    return path
