"""Records of a topic as columns of the envelope, without a Python object more per event than the client makes anyway.

What doesn't live here: consuming (`reading`).
"""

from __future__ import annotations

import hashlib
import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from event_archive.archive.columns import column, string_column
from event_archive.archive.data_file import SOURCE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

_HEADERS_TYPE = SOURCE_SCHEMA.field("headers").type
_TIMESTAMP_TYPES = ["create_time", "log_append_time"]  # by librdkafka's number, from 1
_NO_TIMESTAMP_MS = -1
_DIGESTED = ["timestamp_type", "timestamp_ms", "key", "value", "headers"]
# Years 1 to 9999, which is what readers of the typed column can hold.
_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_999


def partitions_of(messages: Sequence[Message]) -> npt.NDArray[np.int32]:
    """Partition of each message."""
    return np.fromiter(map(Message.partition, messages), np.int32, len(messages))


def offsets_of(messages: Sequence[Message]) -> npt.NDArray[np.int64]:
    """Offset of each message."""
    return np.fromiter(map(Message.offset, messages), np.int64, len(messages))


def record_columns(messages: Sequence[Message]) -> tuple[dict[str, pa.Array], int]:
    """What the messages hold, as columns of the envelope by name, and the bytes of their keys, values and headers."""
    rows = len(messages)
    values, value_bytes = binary_column(list(map(Message.value, messages)))
    keys, key_bytes = binary_column(list(map(Message.key, messages)))
    given_headers: list[Any] = list(map(Message.headers, messages))
    headers, header_bytes = _headers_column(given_headers)
    stamps = np.fromiter(chain.from_iterable(map(Message.timestamp, messages)), np.int64, 2 * rows).reshape(
        rows, 2
    )
    columns = {**_timestamp_columns(stamps), "key": keys, "value": values, "headers": headers}
    return columns, value_bytes + key_bytes + header_bytes


def binary_column(values: list[bytes | None]) -> tuple[pa.BinaryArray, int]:
    """An array of bytes, and how many they are together."""
    offsets = np.zeros(len(values) + 1, np.int32)
    validity = None
    nulls = 0
    try:
        lengths = np.fromiter(map(len, values), np.int32, len(values))  # type: ignore[arg-type]
    except TypeError:  # one of them is null
        is_given = np.fromiter((value is not None for value in values), np.bool_, len(values))
        values = [value or b"" for value in values]
        lengths = np.fromiter(map(len, values), np.int32, len(values))  # type: ignore[arg-type]
        validity = pa.py_buffer(np.packbits(is_given, bitorder="little"))
        nulls = len(values) - int(is_given.sum())
    np.cumsum(lengths, out=offsets[1:])
    data = b"".join(values)  # type: ignore[arg-type]
    array = pa.Array.from_buffers(
        pa.binary(), len(values), [validity, pa.py_buffer(offsets), pa.py_buffer(data)], nulls
    )
    return array, len(data)


def _timestamp_columns(stamps: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
    """The columns about time; `stamps` has shape (rows, 2): type as librdkafka numbers it, milliseconds since 1970."""
    kinds, milliseconds = stamps[:, 0], np.ascontiguousarray(stamps[:, 1])
    has_type = kinds > 0
    is_time = has_type & (milliseconds != _NO_TIMESTAMP_MS)
    is_time &= (milliseconds >= _FIRST_MS) & (milliseconds <= _LAST_MS)
    microseconds = np.where(is_time, milliseconds, 0) * 1000
    indices = np.maximum(kinds - 1, 0).astype(np.int32)
    return {
        "event_time": _nullable(SOURCE_SCHEMA.field("event_time").type, microseconds, is_time),
        "timestamp_ms": _nullable(pa.int64(), milliseconds, has_type),
        "timestamp_type": pa.DictionaryArray.from_arrays(
            _nullable(pa.int32(), indices, has_type), string_column(_TIMESTAMP_TYPES)
        ),
    }


def _nullable(
    kind: pa.DataType, values: npt.NDArray[np.int64 | np.int32], is_given: npt.NDArray[np.bool_]
) -> pa.Array:
    if is_given.all():
        return column(kind, values)
    validity = pa.py_buffer(np.packbits(is_given, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(values)])


def _headers_column(headers: list[list[tuple[str, bytes | None]] | None]) -> tuple[pa.ListArray, int]:
    if not any(headers):
        return pa.nulls(len(headers), _HEADERS_TYPE), 0
    validity = None
    if None in headers:
        is_given = np.fromiter((item is not None for item in headers), np.bool_, len(headers))
        validity = pa.py_buffer(np.packbits(is_given, bitorder="little"))
    lists = [item or [] for item in headers]
    flat = list(chain.from_iterable(lists))
    keys = _text_column([key for key, _ in flat])
    values, value_bytes = binary_column([value for _, value in flat])
    element = _HEADERS_TYPE.value_type
    structs = pa.StructArray.from_buffers(element, len(flat), [None], children=[keys, values])
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, lists), np.int32, len(lists)), out=offsets[1:])
    array = pa.ListArray.from_buffers(
        _HEADERS_TYPE, len(headers), [validity, pa.py_buffer(offsets)], children=[structs]
    )
    return array, value_bytes + keys.buffers()[2].size


def _text_column(values: list[str]) -> pa.StringArray:
    """The same as `string_column`, in half the time for plain ASCII, which nearly all names of headers are."""
    data = "".join(values)
    if not data.isascii():
        return string_column(values)
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(data.encode()))


def record_digest(
    timestamp_type: str | None,
    timestamp_ms: int | None,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]] | None,
) -> str:
    """What tells a record from any other: 32 hexadecimal digits over timestamp, key, value and headers.

    SHA-256, cut in half, over each part with its length in front (-1 for null), so that no two records look alike.
    """
    digest = hashlib.sha256()

    def part(data: bytes | None) -> None:
        digest.update(struct.pack("<q", -1 if data is None else len(data)))
        digest.update(data or b"")

    part(None if timestamp_type is None else timestamp_type.encode())
    part(None if timestamp_ms is None else struct.pack("<q", timestamp_ms))
    part(key)
    part(value)
    for name, content in headers or ():
        part(name.encode())
        part(content)
    return digest.hexdigest()[:32]


def message_digest(message: Message) -> str:
    """`record_digest` of a record as the client gives it."""
    kind, milliseconds = message.timestamp()
    headers: Any = message.headers()
    if not kind:
        return record_digest(None, None, message.key(), message.value(), headers)
    return record_digest(_TIMESTAMP_TYPES[kind - 1], milliseconds, message.key(), message.value(), headers)


def row_digest(rows: pa.RecordBatch, row: int) -> str:
    """`record_digest` of one row of the envelope."""
    (given,) = rows.select(_DIGESTED).slice(row, 1).to_pylist()
    headers = given["headers"] and [(header["key"], header["value"]) for header in given["headers"]]
    return record_digest(
        given["timestamp_type"], given["timestamp_ms"], given["key"], given["value"], headers
    )
