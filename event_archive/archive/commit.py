"""The commit: how events become part of a table, exactly once.

A commit is one log entry, created under the name of the version after the snapshot on which the positions of its
events were read. Creating it fails if that name exists, so of any number of writers that read the same positions one
wins, and a paused or duplicate writer can't commit what it read before. See `docs/decisions/0002-own-commit.md`.

What doesn't live here: reading the log back (`log`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive import __version__, layout
from event_archive.archive.log import FORMAT, seal_entry
from event_archive.durable import make_folder, publish_new, storage_errors
from event_archive.envelope import delta_schema_string
from event_archive.errors import CommitConflict

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.archive.data_file import WrittenFile

_MICROSECOND = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_TABLE_PROPERTIES = {
    "delta.appendOnly": "true",
    # Our hashes live in log entries and are not carried into checkpoints: no entry may ever expire.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
}


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a table's log: what the next commit is built on."""

    version: int
    entry_sha256: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit brings: at most one data file, and where each source stands after it."""

    file: WrittenFile | None
    value_bytes: int
    claims: dict[str, list[Any]]
    """Positions after the commit, as columns with one item per source that it touched."""
    transactions: dict[str, int]
    """Delta `txn` actions: application id to version."""


def create_table(table: Path, *, description: str) -> Head:
    """Creates the table of a stream; if another writer is first, its table is as good as ours.

    Raises:
        CommitConflict: another writer created it at this moment.
        StorageError: the disk refused.
    """
    now = _now()
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": str(uuid.uuid4()),
                "name": table.name,
                "description": description,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": delta_schema_string(),
                "partitionColumns": ["ingest_date"],
                "configuration": _TABLE_PROPERTIES,
                "createdTime": _milliseconds(now),
            }
        },
    ]
    with storage_errors(table):
        make_folder(table / layout.LOG_FOLDER)
    return _append(
        table, Head(-1, None), "CREATE TABLE", ingested_at=now, actions=actions, facts=_facts(None, 0, {})
    )


def commit(table: Path, head: Head, batch: Batch, *, ingested_at: dt.datetime) -> Head:
    """Appends `batch` to the table right after `head`, durably, or not at all.

    Raises:
        CommitConflict: `head` is no longer the newest entry. The batch is void: read positions and source again.
        StorageError: the disk refused.
    """
    now = _milliseconds(_now())
    actions: list[dict[str, Any]] = []
    if batch.file is not None:
        actions.append(
            {
                "add": {
                    "path": batch.file.path,
                    "partitionValues": {"ingest_date": batch.file.ingest_date.isoformat()},
                    "size": batch.file.size_bytes,
                    "modificationTime": now,
                    "dataChange": True,
                    "stats": json.dumps(batch.file.stats, separators=(",", ":")),
                }
            }
        )
    actions += [
        {"txn": {"appId": application, "version": version, "lastUpdated": now}}
        for application, version in batch.transactions.items()
    ]
    facts = _facts(batch.file, batch.value_bytes, batch.claims)
    return _append(table, head, "WRITE", ingested_at=ingested_at, actions=actions, facts=facts)


def _facts(file: WrittenFile | None, value_bytes: int, claims: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "events": file.num_records if file else 0,
        "valueBytes": value_bytes,
        "files": {file.path: file.sha256} if file else {},
        "positions": claims,
    }


def _append(
    table: Path,
    head: Head,
    operation: str,
    *,
    ingested_at: dt.datetime,
    actions: list[dict[str, Any]],
    facts: dict[str, Any],
) -> Head:
    version = head.version + 1
    entry = seal_entry(
        actions,
        {
            "previousEntrySha256": head.entry_sha256,
            "format": FORMAT,
            "version": version,
            "ingestedAtUs": (ingested_at - _EPOCH) // _MICROSECOND,
            **facts,
        },
        {
            "timestamp": _milliseconds(_now()),
            "operation": operation,
            "operationParameters": {"mode": "Append"} if operation == "WRITE" else {},
            "isBlindAppend": True,
            "engineInfo": f"event-archive/{__version__}",
        },
    )
    folder = table / layout.LOG_FOLDER
    name = layout.entry_name(version)
    with storage_errors(folder / name):
        ours = publish_new(folder, name, layout.pending_entry_name(uuid.uuid4().hex), entry)
    if not ours:
        raise CommitConflict(f"{table.name}: another writer committed version {version} first.")
    return Head(version, hashlib.sha256(entry).hexdigest())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _milliseconds(time: dt.datetime) -> int:
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)
