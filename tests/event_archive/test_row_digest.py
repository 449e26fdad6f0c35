"""Row digests: against a second implementation by the row, and that nothing about an event can change without showing."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_archive.archive.row_digest import RowDigester, SpanDigest
from event_archive.envelope import EVENT_SCHEMA

Row = dict[str, Any]
BYTES = st.none() | st.binary(max_size=4)
MICROSECONDS = st.none() | st.integers(-(10**15), 10**15)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "source_id": st.sampled_from(["file:a", "file:b"]),
            "source_partition": st.integers(0, 1),
            "source_offset": st.integers(0, 2**40),
            "event_time": MICROSECONDS,
            "timestamp_ms": st.none() | st.integers(-(2**63), 2**63 - 1),
            "timestamp_type": st.sampled_from([None, "create_time", "log_append_time"]),
            "key": BYTES,
            "value": BYTES,
            "headers": st.none()
            | st.lists(st.fixed_dictionaries({"key": st.text(max_size=2), "value": BYTES}), max_size=3),
        }
    ),
    max_size=12,
)
COLUMNS = EVENT_SCHEMA.names[:9]


def table(rows: list[Row]) -> pa.Table:
    """Rows as the columns of the envelope that a digest is about."""
    schema = pa.schema([EVENT_SCHEMA.field(name) for name in COLUMNS])
    return pa.Table.from_pylist(rows, schema=schema)


def digests(rows: list[Row], *, chunks: int = 1) -> list[SpanDigest]:
    """Ours, the rows given in so many pieces."""
    digester = RowDigester()
    size = max(1, -(-len(rows) // chunks))
    for start in range(0, len(rows), size):
        digester.update(table(rows[start : start + size]))
    return digester.take()


def by_the_row(rows: list[Row]) -> list[SpanDigest]:
    """The same from the description of the format alone."""
    spans: list[tuple[tuple[str, int], list[Row]]] = []
    for row in rows:
        key = (row["source_id"], row["source_partition"])
        if not spans or spans[-1][0] != key:
            spans.append((key, []))
        spans[-1][1].append(row)
    return [SpanDigest(*key, len(span), _digest(key, span)) for key, span in spans]


def _digest(key: tuple[str, int], rows: list[Row]) -> str:
    columns = [b""] * 6
    for row in rows:
        flags = (row["event_time"] is not None) + 2 * (row["timestamp_ms"] is not None)
        flags += {None: 0, "create_time": 4, "log_append_time": 8}[row["timestamp_type"]]
        length = [-1 if row[name] is None else len(row[name]) for name in ("key", "value")]
        headers = row["headers"]
        count = -1 if headers is None else len(headers)
        columns[0] += struct.pack(
            "<qqqqqqB",
            row["source_offset"],
            row["event_time"] or 0,
            row["timestamp_ms"] or 0,
            *length,
            count,
            flags,
        )
        columns[1] += row["key"] or b""
        columns[2] += row["value"] or b""
        for header in headers or []:
            name, value = header["key"].encode(), header["value"]
            columns[3] += struct.pack("<qq", len(name), -1 if value is None else len(value))
            columns[4] += name
            columns[5] += value or b""
    text = b"event-archive row digest 1\0" + key[0].encode() + b"\0" + struct.pack("<iq", key[1], len(rows))
    return hashlib.sha256(text + b"".join(hashlib.sha256(c).digest() for c in columns)).hexdigest()


@settings(deadline=None, max_examples=150)
@given(ROWS, st.integers(1, 5))
def test_columns_give_what_the_format_says_by_the_row(rows: list[Row], chunks: int) -> None:
    """In one piece or in several."""
    assert digests(rows, chunks=chunks) == by_the_row(rows)


def test_slices_with_nulls_in_front_are_digested_as_they_are() -> None:
    """Arrow's memory begins elsewhere than the slice."""
    rows = [
        {**dict.fromkeys(COLUMNS), "source_id": "file:a", "source_partition": 0, "source_offset": n}
        | {
            "key": None if n % 2 else b"k%d" % n,
            "value": b"v" * n,
            "headers": [{"key": "h", "value": None}] * (n % 3),
        }
        for n in range(20)
    ]
    digester = RowDigester()
    digester.update(table(rows).slice(7, 6))
    assert digester.take() == by_the_row(rows[7:13])


@pytest.mark.parametrize(
    "change",
    [
        {"source_id": "file:b"},
        {"source_partition": 1},
        {"source_offset": 6},
        {"event_time": None},
        {"event_time": 0},
        {"timestamp_ms": None},
        {"timestamp_type": "log_append_time"},
        {"timestamp_type": None},
        {"key": None},
        {"key": b""},
        {"key": b"ab", "value": b"c"},
        {"value": None},
        {"headers": None},
        {"headers": []},
        {"headers": [{"key": "x", "value": b""}]},
        {"headers": [{"key": "", "value": b"x"}]},
        {"headers": [{"key": "x", "value": None}, {"key": "x", "value": None}]},
    ],
    ids=str,
)
def test_whatever_changes_shows(change: Row) -> None:
    """One event, one change at a time."""
    row = {
        "source_id": "file:a",
        "source_partition": 0,
        "source_offset": 5,
        "event_time": 1,
        "timestamp_ms": 0,
        "timestamp_type": "create_time",
        "key": b"a",
        "value": b"bc",
        "headers": [{"key": "x", "value": None}],
    }
    assert digests([row]) != digests([row | change])


def test_two_spans_of_one_partition_are_told_apart() -> None:
    """As a compacted file holds them one behind the other."""
    rows = [
        {
            **dict.fromkeys(COLUMNS),
            "source_id": "file:a",
            "source_partition": 0,
            "source_offset": n,
            "value": b"x",
        }
        for n in range(4)
    ]
    digester = RowDigester()
    digester.update(table(rows[:2]))
    digester.end_span()
    digester.update(table(rows[2:]))
    apart = digests(rows[:2]) + digests(rows[2:])
    assert digester.take() == apart
    digester.update(table(rows), ends=[2])
    assert digester.take() == apart
    digester.update(table(rows[:2]), ends=[2])
    digester.update(table(rows[2:]))
    assert digester.take() == apart


def test_a_timestamp_type_that_nobody_knows_is_refused() -> None:
    """Rather than digested as if it weren't there."""
    row = {**dict.fromkeys(COLUMNS), "source_id": "a", "source_partition": 0, "source_offset": 0}
    with pytest.raises(ValueError, match="no type of a timestamp"):
        digests([row | {"timestamp_type": "elsewhere"}])
