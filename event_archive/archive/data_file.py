"""Writing one Parquet data file of the envelope, hashed on its way to the disk.

What doesn't live here: making the file part of the table (`commit`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.durable import HashingFile, make_folder, storage_errors, sync
from event_archive.envelope import EVENT_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

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
# Statistics over values would copy the longest payloads into the footer and help no reader.
_STATISTICS_COLUMNS = [name for name in EVENT_SCHEMA.names if name not in ("key", "value", "headers")]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file that is durable on the disk and not yet part of the table."""

    path: str
    ingest_date: dt.date
    size_bytes: int
    sha256: str
    num_records: int
    stats: dict[str, Any]


def column(kind: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
    """An array of a fixed-width type over the memory of `values`, without nulls.

    Unlike `pa.array` this doesn't import pandas, which takes a second wherever it is installed.
    """
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def string_column(values: list[str]) -> pa.StringArray:
    """An array of strings without nulls, without importing pandas."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def open_data_file(path: Path) -> pa.NativeFile:
    """A data file, opened so that pyarrow's threads read it without calling Python.

    One that did while the interpreter ends would abort the process. And a bare path won't do: pyarrow would read the folder's
    name as a column.
    """
    return pa.OSFile(os.fsencode(path))


class DataFileWriter:
    """Writes row groups to a new, unreferenced file; memory is bounded by one row group."""

    def __init__(self, table: Path, version: int, ingested_at: dt.datetime) -> None:
        self._table = table
        self._version = version
        self._ingested_at = ingested_at
        self._path = layout.data_file_name(ingested_at.date(), version, uuid.uuid4().hex)
        self._full_path = table / self._path
        self._digest = hashlib.sha256()
        self.num_records = 0
        self._bounds: dict[str, list[Any]] = {}
        self._nulls: dict[str, int] = dict.fromkeys(EVENT_SCHEMA.names, 0)
        with storage_errors(self._full_path):
            make_folder(self._full_path.parent)
            self._file = HashingFile(self._full_path, self._digest)
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

    def write_row_group(self, events: pa.Table) -> None:
        """Appends one row group.

        Args:
            events: rows with `SOURCE_SCHEMA`, in order of source, partition and offset.

        Raises:
            StorageError: the disk refused; `abandon` the writer then.
        """
        rows = events.num_rows
        constants = {
            "ingested_at": np.full(rows, (self._ingested_at - _EPOCH) // _MICROSECOND, np.int64),
            "ingest_date": np.full(rows, (self._ingested_at.date() - _EPOCH.date()).days, np.int32),
            "commit_version": np.full(rows, self._version, np.int64),
        }
        columns = [
            *events.columns,
            *(column(EVENT_SCHEMA.field(name).type, v) for name, v in constants.items()),
        ]
        table = pa.table(columns, schema=EVENT_SCHEMA)
        with storage_errors(self._full_path):
            self._writer.write_table(table, row_group_size=max(rows, 1))
        self.num_records += rows
        self._note_stats(table)

    def _note_stats(self, table: pa.Table) -> None:
        for name in EVENT_SCHEMA.names:
            self._nulls[name] += table.column(name).null_count
        for name in ("source_partition", "source_offset", "event_time", "timestamp_ms"):
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
        with storage_errors(self._full_path):
            self._writer.close()
            self._output.flush()
            self._file.sync_and_close()
            sync(self._full_path.parent)
        return WrittenFile(
            path=self._path,
            ingest_date=self._ingested_at.date(),
            size_bytes=self._file.size_bytes,
            sha256=self._digest.hexdigest(),
            num_records=self.num_records,
            stats=self._delta_stats(),
        )

    def abandon(self) -> None:
        """Removes the file, which no commit refers to."""
        self._file.discard()
        with contextlib.suppress(OSError, ValueError, pa.ArrowException):
            self._writer.close()  # else pyarrow does it when the writer is collected, and complains
        self._full_path.unlink(missing_ok=True)

    def _delta_stats(self) -> dict[str, Any]:
        constants = {"ingested_at": self._ingested_at, "commit_version": self._version}
        bounds = {**self._bounds, **{name: [value, value] for name, value in constants.items()}}
        return {
            "numRecords": self.num_records,
            "minValues": {name: _stat(low) for name, (low, _) in bounds.items()},
            "maxValues": {name: _stat(high, up=True) for name, (_, high) in bounds.items()},
            "nullCount": {name: count for name, count in self._nulls.items() if name != "ingest_date"},
        }


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
