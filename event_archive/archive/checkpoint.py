"""Delta's checkpoints: what the log adds up to, for readers of the format that don't read all of its entries.

Format: github.com/delta-io/delta, PROTOCOL.md, "Checkpoints" (V1 spec, classic naming), "Checkpoint Schema" and "Last Checkpoint File
Schema". The same input gives the same bytes, so that a checkpoint can be proved by its SHA-256, and the pointer to it by
writing it again. We never read a checkpoint ourselves.

What doesn't live here: when checkpoints are made and where their hashes are kept (`event_archive.sealing`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.archive.columns import column, string_column

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence, Sized

    from event_archive.archive.log import DataFile

_FILES_PER_ROW_GROUP = 50_000
"""Bounds memory, and keeps the statistics of a row group below the 2 GiB that an Arrow string column holds."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_NUMBERS = {pa.int32(): np.int32, pa.int64(): np.int64}
_STRING_MAP = pa.map_(pa.string(), pa.string())
_ACTIONS = pa.schema(
    {
        "protocol": pa.struct({"minReaderVersion": pa.int32(), "minWriterVersion": pa.int32()}),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _STRING_MAP}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "configuration": _STRING_MAP,
                "createdTime": pa.int64(),
            }
        ),
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64()}),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _STRING_MAP,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
            }
        ),
        "remove": pa.struct(
            {
                "path": pa.string(),
                "deletionTimestamp": pa.int64(),
                "dataChange": pa.bool_(),
                "extendedFileMetadata": pa.bool_(),
                "partitionValues": _STRING_MAP,
                "size": pa.int64(),
            }
        ),
    }
)
"""One row per action; all columns but its own are null."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A data file that has left the table; Delta's VACUUM leaves it alone until its time is over."""

    path: str
    """Relative to the table, as written in the log."""
    size_bytes: int
    removed_at_ms: int
    """Milliseconds since 1970 UTC."""


def checkpoint_bytes(
    *,
    protocol: Mapping[str, Any],
    metadata: Mapping[str, Any],
    transactions: Mapping[str, int],
    files: Collection[DataFile],
    removed: Collection[Tombstone] = (),
) -> bytes:
    """A checkpoint as a Parquet file. It holds `2 + len(transactions) + len(removed) + len(files)` actions.

    The order of files, transactions and properties doesn't matter: the same table gives the same bytes (with the same version of
    pyarrow). The time of a file's making is the newest `ingested_at` in its statistics.

    Args:
        protocol: the `protocol` action of the table's first log entry.
        metadata: its `metaData` action.
        transactions: application id to version, of Delta's `txn` actions.
        files: the active files; partition values are those that their paths say.
        removed: files that left the table not long ago.

    Raises:
        ValueError: a file is both active and removed, or an action has other fields than this checkpoint.
        ArchiveDamaged: a path has no partition.
    """
    if twice := {file.path for file in files} & {file.path for file in removed}:
        raise ValueError(f"both active and removed: {min(twice)}")
    sections: dict[str, Sequence[Mapping[str, Any]]] = {
        "protocol": [protocol],
        "metaData": [metadata],
        "txn": [{"appId": application, "version": v} for application, v in sorted(transactions.items())],
        "remove": [_remove(file) for file in sorted(removed, key=attrgetter("path"))],
    }
    in_order = sorted(files, key=attrgetter("path"))
    output = pa.BufferOutputStream()
    with pq.ParquetWriter(
        output,
        _ACTIONS,
        compression="zstd",
        use_dictionary=False,
        write_page_checksum=True,
        store_schema=False,  # that names Arrow's types, which no reader of Delta asks for
    ) as writer:
        writer.write_table(pa.concat_tables([_rows(kind, actions) for kind, actions in sections.items()]))
        for start in range(0, len(in_order), _FILES_PER_ROW_GROUP):
            adds = [_add(file) for file in in_order[start : start + _FILES_PER_ROW_GROUP]]
            writer.write_table(_rows("add", adds))
    return bytes(output.getvalue())


def last_checkpoint_bytes(*, version: int, actions: int, size_bytes: int, add_files: int) -> bytes:
    """The content of Delta's `_last_checkpoint`, which points to the newest checkpoint.

    Args:
        version: of the checkpoint.
        actions: how many it holds.
        size_bytes: of its file.
        add_files: how many of the actions are active files.
    """
    fields = {"version": version, "size": actions, "sizeInBytes": size_bytes, "numOfAddFiles": add_files}
    # PROTOCOL.md, "JSON checksum": for names and numbers without anything to escape it comes to this.
    canonical = ",".join(f'"{name}"={fields[name]}' for name in sorted(fields))
    checksum = hashlib.md5(canonical.encode(), usedforsecurity=False).hexdigest()
    return json.dumps({**fields, "checksum": checksum}, separators=(",", ":")).encode()


def _add(file: DataFile) -> dict[str, Any]:
    made_at = dt.datetime.fromisoformat(file.stats["maxValues"]["ingested_at"])
    return {
        "path": file.path,
        "partitionValues": {"ingest_date": layout.ingest_date_of(file.path)},
        "size": file.size_bytes,
        "modificationTime": (made_at - _EPOCH) // _MILLISECOND,
        "dataChange": False,  # it is no change: Delta's own checkpoints say so too
        "stats": json.dumps(file.stats, separators=(",", ":")),
    }


def _remove(file: Tombstone) -> dict[str, Any]:
    return {
        "path": file.path,
        "deletionTimestamp": file.removed_at_ms,
        "dataChange": False,
        "extendedFileMetadata": True,
        "partitionValues": {"ingest_date": layout.ingest_date_of(file.path)},
        "size": file.size_bytes,
    }


def _rows(kind: str, actions: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Actions of one kind as rows of the checkpoint."""
    known = {field.name for field in _ACTIONS.field(kind).type}
    if wrong := next((action.keys() ^ known for action in actions if action.keys() != known), None):
        raise ValueError(f"a checkpoint can't hold {kind}.{min(wrong)}, or can't do without it")
    columns = {field.name: pa.nulls(len(actions), field.type) for field in _ACTIONS}
    return pa.table({**columns, kind: _array(_ACTIONS.field(kind).type, actions)}, schema=_ACTIONS)


def _array(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """An array of a type of `_ACTIONS`, without nulls, and without importing pandas (as `pa.array` does)."""
    if pa.types.is_struct(kind):
        parts = [_array(field.type, [value[field.name] for value in values]) for field in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    if pa.types.is_map(kind):
        keys = _array(kind.key_type, [key for value in values for key in sorted(value)])
        items = _array(kind.item_type, [value[key] for value in values for key in sorted(value)])
        return pa.MapArray.from_arrays(_offsets(values), keys, items)
    if pa.types.is_list(kind):
        items = _array(kind.value_type, [item for value in values for item in value])
        return pa.ListArray.from_arrays(_offsets(values), items)
    if pa.types.is_string(kind):
        return string_column(list(values))
    if pa.types.is_boolean(kind):
        bits = np.packbits(np.array(values, np.bool_), bitorder="little")
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(bits)])
    return column(kind, np.array(values, _NUMBERS[kind]))


def _offsets(values: Sequence[Sized]) -> pa.Array:
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=ends[1:])
    return column(pa.int32(), ends)
