"""Rows come back in order of rank, however little memory there is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_archive.archive.rearrange import Rearranger
from event_archive.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = pa.schema(
    [
        pa.field("name", pa.dictionary(pa.int32(), pa.string())),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("value", pa.binary()),
        pa.field("tags", pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False)]))),
    ]
)
SCRATCH = Path(tempfile.gettempdir())
Row = tuple[Any, ...]
ROWS = st.tuples(
    st.sampled_from(["a", "b", "\u00fc", "", None]),
    st.integers(0, 9),
    st.none() | st.binary(max_size=40),
    st.none() | st.lists(st.fixed_dictionaries({"key": st.text(max_size=3)}), max_size=2),
)
TABLES = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.lists(ROWS, min_size=1, max_size=6)), max_size=6), max_size=8
)


def a_table(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table whose dictionary has what they hold, in the order in which they hold it."""
    columns = [[row[i] for row in rows] for i in range(len(SCHEMA))]
    arrays = [
        pa.array(values, field.type.value_type).dictionary_encode()
        if field.name == "name"
        else pa.array(values, field.type)
        for values, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=SCHEMA)


@settings(deadline=None, max_examples=150)
@given(TABLES, st.sampled_from([1, 300, 10**6]), st.integers(1, 20))
def test_the_order_is_that_of_a_stable_sort(
    tables: list[list[tuple[int, list[Row]]]], memory_bytes: int, batch_rows: int
) -> None:
    """Stretches of one rank stay in the order in which they came; each value stays what it was."""
    with Rearranger(SCRATCH, memory_bytes=memory_bytes) as rearranger:
        for stretches in tables:
            rows = [row for _, stretch in stretches for row in stretch]
            lengths = np.array([len(stretch) for _, stretch in stretches], np.int64)
            rearranger.add(a_table(rows), lengths, np.array([rank for rank, _ in stretches], np.int64))
        found = list(rearranger.rows(batch_rows=batch_rows, batch_bytes=10**9))
    expected = [
        row
        for _, stretch in sorted((s for table in tables for s in table), key=lambda s: s[0])
        for row in stretch
    ]
    assert [tuple(row.values()) for table in found for row in table.to_pylist()] == expected
    assert all(table.num_rows == batch_rows for table in found[:-1])
    assert all(table.schema == SCHEMA for table in found)


def test_other_bytes_from_the_disk_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proved when it was read must not change on its way."""
    pread = os.pread
    with Rearranger(tmp_path, memory_bytes=1) as rearranger:
        for number in range(3):
            rows = a_table([("a", number, b"x" * 100, None)] * 50)
            rearranger.add(rows, np.array([50]), np.array([3 - number]))
        assert rearranger.spilled_bytes > 0
        monkeypatch.setattr(os, "pread", lambda *a: (b := pread(*a))[:99] + bytes([b[99] ^ 1]) + b[100:])
        with pytest.raises(StorageError, match="other bytes"):
            list(rearranger.rows(batch_rows=10, batch_bytes=10**6))
