"""Writing one Parquet data file of the envelope, hashed on its way to the disk.

What doesn't live here: making the file part of the table (`commit`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from event_archive.archive.columns import column
from event_archive.archive.row_digest import RowDigester, SpanDigest
from event_archive.durable import storage_errors
from event_archive.envelope import EVENT_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.storage.store import Store

SOURCE_SCHEMA = pa.schema([EVENT_SCHEMA.field(i) for i in range(EVENT_SCHEMA.get_field_index("ingested_at"))])
"""The envelope without the columns that a commit adds: what a source has to give."""

_UTC = dt.UTC
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=_UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_OUTPUT_BYTES = 2**22
_DICTIONARY_COLUMNS = [
    "source_id",
    "source_partition",
    "timestamp_type",
    "ingested_at",
    "ingest_date",
    "commit_version",
]
BOUNDED_COLUMNS = (
    "source_partition",
    "source_offset",
    "event_time",
    "timestamp_ms",
    "ingested_at",
    "commit_version",
)
"""Columns whose smallest and largest values stand in the log."""
# Statistics over values would copy the longest payloads into the footer and help no reader.
_STATISTICS_COLUMNS = [name for name in EVENT_SCHEMA.names if name not in ("key", "value", "headers")]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file that is durable on the disk and not yet part of the table."""

    path: str
    size_bytes: int
    sha256: str
    num_records: int
    stats: dict[str, Any]
    digests: tuple[SpanDigest, ...]
    """Row digests of the spans that were written, in their order."""
    row_groups: tuple[int, ...]
    """Rows of each row group."""


def open_data_file(path: Path) -> pa.NativeFile:
    """A data file, opened so that pyarrow's threads read it without calling Python.

    One that did while the interpreter ends would abort the process. And a bare path won't do: pyarrow would read the folder's
    name as a column.
    """
    return pa.OSFile(os.fsencode(path))


def with_commit(events: pa.Table, version: int, ingested_at: dt.datetime) -> pa.Table:
    """Rows of a source with the columns that a commit adds.

    Args:
        events: rows with `SOURCE_SCHEMA`.
        version: of the commit.
        ingested_at: when it is made.
    """
    rows = events.num_rows
    constants = {
        "ingested_at": np.full(rows, (ingested_at - _EPOCH) // _MICROSECOND, np.int64),
        "ingest_date": np.full(rows, (ingested_at.date() - _EPOCH.date()).days, np.int32),
        "commit_version": np.full(rows, version, np.int64),
    }
    columns = [*events.columns, *(column(EVENT_SCHEMA.field(name).type, v) for name, v in constants.items())]
    return pa.table(columns, schema=EVENT_SCHEMA)


class DataFileWriter:
    """Writes row groups to a new, unreferenced file; memory is bounded by one row group."""

    def __init__(self, table: Store, name: str) -> None:
        """Begins the file.

        Args:
            table: the store of the table.
            name: of the file; nobody else uses it.
        """
        self._name = name
        self._place = table.place(name)
        self.num_records = 0
        self._bounds: dict[str, list[Any]] = {}
        self._nulls: dict[str, int] = dict.fromkeys(EVENT_SCHEMA.names, 0)
        self._digester = RowDigester()
        self._row_groups: list[int] = []
        self._file = table.new_file(name)
        # pyarrow writes each page in pieces; each would wait for the interpreter, which other threads keep busy.
        self._output = pa.BufferedOutputStream(pa.PythonFile(self._file, mode="w"), _OUTPUT_BYTES)
        self._writer = pq.ParquetWriter(
            self._output,
            EVENT_SCHEMA,
            compression="zstd",
            use_dictionary=_DICTIONARY_COLUMNS,
            column_encoding={"source_offset": "DELTA_BINARY_PACKED"},
            write_statistics=_STATISTICS_COLUMNS,
            write_page_checksum=True,
            write_page_index=True,
        )

    @property
    def size_bytes(self) -> int:
        """How much was written so far, what is buffered left out."""
        return self._file.size_bytes

    def write_row_group(self, events: pa.Table) -> None:
        """Appends one row group.

        Args:
            events: rows with `EVENT_SCHEMA`, in order of source, partition and offset.

        Raises:
            StorageError: the disk refused; `abandon` the writer then.
        """
        events = _as_written(events)
        self._row_groups.append(events.num_rows)
        with storage_errors(self._place):
            self._writer.write_table(events, row_group_size=max(events.num_rows, 1))
        self.num_records += events.num_rows
        self._digester.update(events)
        self._note_stats(events)

    def end_span(self) -> None:
        """Says that the next row begins another span, even if it is of the same partition; see `row_digest`."""
        self._digester.end_span()

    def _note_stats(self, table: pa.Table) -> None:
        for name in EVENT_SCHEMA.names:
            self._nulls[name] += table.column(name).null_count
        for name in BOUNDED_COLUMNS:
            values = table.column(name)
            is_time = pa.types.is_timestamp(values.type)
            # As numbers: pyarrow's way from a timestamp to Python imports pandas wherever it is installed.
            bounds = pc.min_max(values.cast(pa.int64()) if is_time else values).as_py().values()
            if None not in bounds:
                low, high = (_EPOCH + bound * _MICROSECOND for bound in bounds) if is_time else bounds
                known_low, known_high = self._bounds.get(name, (low, high))
                self._bounds[name] = [min(known_low, low), max(known_high, high)]

    def finish(self) -> WrittenFile:
        """Closes the file and makes it durable under its name.

        Raises:
            StorageError: the disk refused; `abandon` the writer then.
        """
        with storage_errors(self._place):
            self._writer.close()
            self._output.flush()
            self._file.finish()
        return WrittenFile(
            path=self._name,
            size_bytes=self._file.size_bytes,
            sha256=self._file.sha256,
            num_records=self.num_records,
            stats=self._delta_stats(),
            digests=tuple(self._digester.take()),
            row_groups=tuple(self._row_groups),
        )

    def abandon(self) -> None:
        """Removes the file, which no commit refers to."""
        self._file.discard()
        with contextlib.suppress(OSError, ValueError, pa.ArrowException):
            self._writer.close()  # else pyarrow does it when the writer is collected, and complains

    def _delta_stats(self) -> dict[str, Any]:
        return {
            "numRecords": self.num_records,
            "minValues": {name: _stat(low) for name, (low, _) in self._bounds.items()},
            "maxValues": {name: _stat(high, up=True) for name, (_, high) in self._bounds.items()},
            "nullCount": {name: count for name, count in self._nulls.items() if name != "ingest_date"},
        }


def _as_written(events: pa.Table) -> pa.Table:
    """The same rows in one piece, with the sources numbered in order of their rows: how rows were read must not show in a file."""
    events = events.combine_chunks()
    index = events.schema.get_field_index("source_id")
    ids = events.column(index).combine_chunks()
    if len(ids.dictionary) > 1:
        ids = pc.dictionary_encode(ids.cast(pa.string()))
        events = events.set_column(index, events.schema.field(index), ids)
    return events


def _stat(value: Any, *, up: bool = False) -> Any:
    """A bound as Delta's statistics have it: timestamps in whole milliseconds, an upper bound never below the value."""
    if not isinstance(value, dt.datetime):
        return value
    rest = value.microsecond % 1000
    whole = value - dt.timedelta(microseconds=rest)
    # The last millisecond of year 9999 can't be rounded up, and rounding isn't needed there: nothing is later.
    if up and rest and whole < dt.datetime.max.replace(tzinfo=_UTC) - dt.timedelta(milliseconds=1):
        whole += dt.timedelta(milliseconds=1)
    return whole.astimezone(_UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{whole.microsecond // 1000:03d}Z"
