r"""An archived event as one JSON object, from which every column can be had back to the bit.

Bytes that are UTF-8 stand as text under the column's name (`"value": "…"`), others in base64 under another one
(`"value_base64": "…"`), and null is null. What doesn't live here: where the lines go (`lines`).
"""

from __future__ import annotations

import base64
from itertools import islice
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = ("source_partition", "source_offset", "timestamp_ms", "commit_version")
_NAMES = ("source_id", "timestamp_type")
_TIMES = ("event_time", "ingested_at")
_BINARY = ("key", "value")
ENVELOPE_COLUMNS = (*_NAMES, *_NUMBERS, *_TIMES, "ingest_date", *_BINARY, "headers")


def json_lines(events: pa.Table) -> str:
    """One line for each event.

    Args:
        events: rows with `ENVELOPE_COLUMNS`.
    """
    plain = {
        "source_id": _quoted(events["source_id"].cast(pa.string())),
        "source_partition": _numbers(events["source_partition"]),
        "source_offset": _numbers(events["source_offset"]),
        "event_time": _quoted(_iso(events["event_time"])),
        "timestamp_ms": _numbers(events["timestamp_ms"]),
        "timestamp_type": _quoted(events["timestamp_type"].cast(pa.string())),
        "ingested_at": _quoted(_iso(events["ingested_at"])),
        "ingest_date": _quoted(events["ingest_date"].cast(pa.string())),
        "commit_version": _numbers(events["commit_version"]),
    }
    parts = [part for name, column in plain.items() for part in (f',"{name}":', column)]
    heads = pc.binary_join_element_wise(*parts, "").to_pylist()
    keys, values = events["key"].to_pylist(), events["value"].to_pylist()
    return "".join(
        f'{{{head[1:]},{_binary("key", key)},{_binary("value", value)},"headers":{headers}}}\n'
        for head, key, value, headers in zip(heads, keys, values, _headers(events), strict=True)
    )


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()).fill_null("null")


def _quoted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as JSON; the same text comes again and again."""
    encoded = column.combine_chunks().dictionary_encode()
    texts = [encode_basestring(text) for text in encoded.dictionary.to_pylist()]
    return (
        pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string()))
        .cast(pa.string())
        .fill_null("null")
    )


def _iso(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """`2026-01-31T00:00:00.000000Z`."""
    text = times.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")


def _binary(name: str, value: bytes | None) -> str:
    if value is None:
        return f'"{name}":null'
    try:
        return f'"{name}":{encode_basestring(value.decode())}'
    except UnicodeDecodeError:
        return f'"{name}_base64":"{base64.b64encode(value).decode()}"'


def _headers(events: pa.Table) -> Iterator[str]:
    column = events["headers"].combine_chunks()
    flat = column.flatten()
    pairs = zip(flat.field(0).to_pylist(), flat.field(1).to_pylist(), strict=True)
    counts = pc.list_value_length(column).to_pylist()
    for count in counts:
        if count is None:
            yield "null"
            continue
        listed = (
            f'{{"key":{encode_basestring(key)},{_binary("value", value)}}}'
            for key, value in islice(pairs, count)
        )
        yield f"[{','.join(listed)}]"
