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
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive import __version__, layout
from event_archive.archive.log import FORMAT, seal_entry
from event_archive.envelope import delta_schema_string
from event_archive.errors import CommitConflict

if TYPE_CHECKING:
    from event_archive.archive.data_file import WrittenFile
    from event_archive.archive.log import DataFile
    from event_archive.storage.store import Store

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


def create_table(table: Store, *, description: str) -> Head:
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
    return _append(
        table, Head(-1, None), "CREATE TABLE", ingested_at=now, actions=actions, facts=_facts(None, 0, {})
    )


def commit(table: Store, head: Head, batch: Batch, *, ingested_at: dt.datetime) -> Head:
    """Appends `batch` to the table right after `head`, durably, or not at all.

    Raises:
        CommitConflict: `head` is no longer the newest entry. The batch is void: read positions and source again.
        StorageError: the disk refused.
    """
    now = _milliseconds(_now())
    actions = [] if batch.file is None else [_add(batch.file, now, data_change=True)]
    actions += [
        {"txn": {"appId": application, "version": version, "lastUpdated": now}}
        for application, version in batch.transactions.items()
    ]
    facts = _facts(batch.file, batch.value_bytes, batch.claims)
    return _append(table, head, "WRITE", ingested_at=ingested_at, actions=actions, facts=facts)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Data files that take the place of others and hold the same rows, in the order in which their rows go on."""

    inputs: tuple[DataFile, ...]
    outputs: tuple[WrittenFile, ...]


def commit_replacement(table: Store, head: Head, replacement: Replacement) -> Head:
    """Lets files take the place of others, right after `head`, or not at all. No event comes or goes.

    Raises:
        CommitConflict: `head` is no longer the newest entry; look whether the inputs are still part of the table.
        StorageError: the disk refused.
    """
    time = _now()
    now = _milliseconds(time)
    removes = [
        {
            "remove": {
                "path": file.path,
                "deletionTimestamp": now,
                "dataChange": False,
                "extendedFileMetadata": True,
                "partitionValues": {"ingest_date": layout.ingest_date_of(file.path)},
                "size": file.size_bytes,
            }
        }
        for file in replacement.inputs
    ]
    adds = [_add(file, now, data_change=False) for file in replacement.outputs]
    facts = {
        **_facts(None, 0, {}),
        "files": {file.path: file.sha256 for file in replacement.outputs},
        "compacted": {
            "inputs": [file.path for file in replacement.inputs],
            "outputs": [{"path": file.path, "spans": len(file.digests)} for file in replacement.outputs],
        },
    }
    return _append(table, head, "COMPACT", ingested_at=time, actions=[*removes, *adds], facts=facts)


def commit_seal(table: Store, head: Head, sealed: dict[str, Any]) -> Head:
    """Records, right after `head`, which entries are sealed, and in which files; see `archive.sealing`.

    Raises:
        CommitConflict: `head` is no longer the newest entry.
        StorageError: the disk refused.
    """
    return _append(
        table, head, "SEAL", ingested_at=_now(), actions=[], facts={**_facts(None, 0, {}), "sealed": sealed}
    )


def _add(file: WrittenFile, now: int, *, data_change: bool) -> dict[str, Any]:
    return {
        "add": {
            "path": file.path,
            "partitionValues": {"ingest_date": layout.ingest_date_of(file.path)},
            "size": file.size_bytes,
            "modificationTime": now,
            "dataChange": data_change,
            "stats": json.dumps(file.stats, separators=(",", ":")),
        }
    }


def _facts(file: WrittenFile | None, value_bytes: int, claims: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "events": file.num_records if file else 0,
        "valueBytes": value_bytes,
        "files": {file.path: file.sha256} if file else {},
        "positions": claims,
        "digests": [span.sha256 for span in file.digests] if file else [],
        "rowGroups": file.row_groups if file else [],
    }


def _append(
    table: Store,
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
            # No two writers ever make the same bytes: an entry that reads back as ours was written by us.
            "nonce": secrets.token_hex(8),
            **facts,
        },
        {
            "timestamp": _milliseconds(_now()),
            "operation": operation,
            "operationParameters": {"mode": "Append"} if operation == "WRITE" else {},
            "isBlindAppend": operation != "COMPACT",
            "engineInfo": f"event-archive/{__version__}",
        },
    )
    ours = table.put_new(layout.entry_name(version), entry)
    if not ours:
        raise CommitConflict(f"{table.name}: another writer committed version {version} first.")
    return Head(version, hashlib.sha256(entry).hexdigest())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _milliseconds(time: dt.datetime) -> int:
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)
