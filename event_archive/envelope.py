"""The columns in which every event is recorded, whatever its source: in Arrow and in Delta's schema language.

What doesn't live here: how a source fills them (`event_archive.sources`).
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_HEADERS = pa.list_(
    pa.field(
        "element",
        pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())]),
        nullable=False,
    )
)

EVENT_SCHEMA = pa.schema(
    [
        pa.field("source_id", _DICTIONARY, nullable=False),
        pa.field("source_partition", pa.int32(), nullable=False),
        pa.field("source_offset", pa.int64(), nullable=False),
        pa.field("event_time", _TIMESTAMP),
        pa.field("timestamp_ms", pa.int64()),
        pa.field("timestamp_type", _DICTIONARY),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", _HEADERS),
        pa.field("ingested_at", _TIMESTAMP, nullable=False),
        pa.field("ingest_date", pa.date32(), nullable=False),
        pa.field("commit_version", pa.int64(), nullable=False),
    ]
)
"""One row per event; DESIGN of the columns: `docs/envelope.md`."""

_DELTA_TYPES: dict[str, Any] = {
    "source_id": "string",
    "source_partition": "integer",
    "source_offset": "long",
    "event_time": "timestamp",
    "timestamp_ms": "long",
    "timestamp_type": "string",
    "key": "binary",
    "value": "binary",
    "headers": {
        "type": "array",
        "containsNull": False,
        "elementType": {
            "type": "struct",
            "fields": [
                {"name": "key", "type": "string", "nullable": False, "metadata": {}},
                {"name": "value", "type": "binary", "nullable": True, "metadata": {}},
            ],
        },
    },
    "ingested_at": "timestamp",
    "ingest_date": "date",
    "commit_version": "long",
}

DESCRIPTIONS: dict[str, str] = {
    "source_id": "Where the event came from: file:<path relative to the landing folder> or kafka://<cluster id>/<topic>",
    "source_partition": "Partition at the source; 0 where it has none",
    "source_offset": "Ordinal of the record in its file, from 0, or its offset in the partition of the topic",
    "event_time": "The record's own timestamp; null if it has none or it lies outside years 1 to 9999",
    "timestamp_ms": "That timestamp exactly as given, in milliseconds",
    "timestamp_type": "create_time or log_append_time",
    "key": "Exact bytes of the key; null is not the same as empty",
    "value": "Exact bytes of the event; null (a tombstone) is not the same as empty",
    "headers": "Headers in order, duplicates kept",
    "ingested_at": "When the commit that brought the event was made",
    "ingest_date": "UTC date of ingested_at; the partition",
    "commit_version": "Delta version of the commit that brought the event",
}


def delta_schema_string() -> str:
    """The envelope as a Delta `schemaString`."""
    fields = [
        {
            "name": field.name,
            "type": _DELTA_TYPES[field.name],
            "nullable": field.nullable,
            "metadata": {"comment": DESCRIPTIONS[field.name]},
        }
        for field in EVENT_SCHEMA
    ]
    return json.dumps({"type": "struct", "fields": fields}, separators=(",", ":"))
