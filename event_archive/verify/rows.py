"""What a data file holds, row by row, held against what the log says that it must hold.

Nothing here makes an object per row. What doesn't live here: whether the file's bytes are the ones that were written (`files`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.archive.columns import numbers
from event_archive.archive.data_file import BOUNDED_COLUMNS, open_data_file
from event_archive.archive.row_digest import RowDigester
from event_archive.envelope import EVENT_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from event_archive.verify.held import HeldSpans
    from event_archive.verify.plan import FileTask

PLACE_COLUMNS = (
    "source_id",
    "source_partition",
    "source_offset",
    "ingested_at",
    "ingest_date",
    "commit_version",
)
"""What tells an event's place; the others are what its source gave."""
_UNCOUNTED_COLUMNS = ("key", "value", "headers")
"""Without statistics in the file: their nulls are counted only where they are decoded."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_DAY = dt.date(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)
_MILLISECOND_US = 1000
_DAY_US = 86_400_000_000
_LAST_MILLISECOND_US = (dt.datetime.max.replace(tzinfo=dt.UTC) - _EPOCH) // _MICROSECOND - _MILLISECOND_US


@dataclass(slots=True)
class RowsProof:
    """What came of one file."""

    fault: str = ""
    """The first thing that is wrong; empty if nothing is."""
    affected: str = ""
    """Its events, if fewer than all of the file's are affected."""
    digests_compared: int = 0
    digests_missing: int = 0


class RowsDiffer(Exception):
    """A file holds something else than the log says."""


def prove_rows(path: Path, task: FileTask, *, deep: bool, use_threads: bool = False) -> RowsProof:
    """Compares a file with what it must hold.

    Args:
        path: the file; it is a Parquet file of the right bytes.
        task: what the log says of it.
        deep: decode all columns, and compute the row digests anew.
        use_threads: let pyarrow decode columns in parallel.
    """
    proof = RowsProof()
    try:
        with open_data_file(path) as opened:
            _prove(pq.ParquetFile(opened, pre_buffer=False), task, proof, deep=deep, use_threads=use_threads)
    except RowsDiffer as error:
        proof.fault = str(error)
    except (OSError, ValueError, pa.ArrowException) as error:
        proof.fault = f"is no readable Parquet file ({error})"
    return proof


def _prove(
    parquet: pq.ParquetFile, task: FileTask, proof: RowsProof, *, deep: bool, use_threads: bool
) -> None:
    file, metadata = task.file, parquet.metadata
    if not parquet.schema_arrow.equals(EVENT_SCHEMA):
        raise RowsDiffer("has other columns than an event has")
    if metadata.num_rows != file.num_records:
        raise RowsDiffer(f"has {metadata.num_rows} rows, but its commit says {file.num_records}")
    groups = [metadata.row_group(number) for number in range(parquet.num_row_groups)]
    if task.row_groups and tuple(group.num_rows for group in groups) != task.row_groups:
        raise RowsDiffer("has other row groups than its commit says")
    _compare_statistics(groups, metadata, file.stats)
    readers: list[_FileRows | _Digests | _Content] = []
    if task.held is not None:
        readers.append(_FileRows(task.held, layout.ingest_date_of(file.path)))
    if deep:
        readers.append(_Content(file.stats))
    if deep and task.held is not None:
        readers.append(_Digests(task.held, proof))
    for number in range(parquet.num_row_groups if readers else 0):
        columns = None if deep else list(PLACE_COLUMNS)
        rows = parquet.read_row_group(number, columns=columns, use_threads=use_threads)
        for reader in readers:
            reader.note(rows)
    for reader in readers:
        reader.finish()


class _FileRows:
    """Compares the rows of a file, row group by row group, with the spans that it must hold."""

    def __init__(self, held: HeldSpans, ingest_date: str) -> None:
        self._held = held
        self._counts = held.runs[:, 1]
        self._ends = np.cumsum(self._counts)
        # An offset less its row's place in the file is the same all along a run.
        self._shifts = held.runs[:, 0] - (self._ends - self._counts)
        self._span_of_run = held.span_of_run
        self._places = {source.source_id: place for place, source in enumerate(held.known_sources)}
        self._at = 0
        day = (dt.date.fromisoformat(ingest_date) - _FIRST_DAY).days
        if (held.times_us // _DAY_US != day).any():
            raise RowsDiffer("lies in another partition than its events' ingest_date")
        self._day = day

    def note(self, rows: pa.Table) -> None:
        """Compares the next rows."""
        begin, end = self._at, self._at + rows.num_rows
        self._at = end
        if not rows.num_rows:
            return
        first, last = np.searchsorted(self._ends, [begin, end - 1], side="right")
        runs = slice(int(first), int(last) + 1)
        counts = np.minimum(self._ends[runs], end) - np.maximum(self._ends[runs] - self._counts[runs], begin)
        spans = self._span_of_run[runs]
        held = self._held
        offsets = _numbers(rows, "source_offset")
        self._check("source_offset", offsets - np.arange(begin, end), self._shifts[runs], counts)
        self._check("source_partition", _numbers(rows, "source_partition"), held.partitions[spans], counts)
        self._check("source_id", self._sources(rows), held.sources[spans], counts)
        self._check("commit_version", _numbers(rows, "commit_version"), held.versions[spans], counts)
        self._check("ingested_at", _numbers(rows, "ingested_at"), held.times_us[spans], counts)
        if (_numbers(rows, "ingest_date") != self._day).any():
            raise RowsDiffer("holds another ingest_date than the partition in which it lies")

    def finish(self) -> None:
        """Does nothing: all rows were compared, since there are as many as the spans have."""

    def _check(
        self,
        name: str,
        given: npt.NDArray[Any],
        of_runs: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
    ) -> None:
        """Compares a column with what each run's rows must have there."""
        is_one = (of_runs == of_runs[0]).all()
        wanted = of_runs[0] if is_one else np.repeat(of_runs, counts)
        if not (given == wanted).all():
            raise RowsDiffer(f"holds other values of {name} than the commits claim")

    def _sources(self, rows: pa.Table) -> npt.NDArray[np.int64]:
        """The place of each row's source among the known ones, -1 for others."""
        column = rows["source_id"].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        if column.null_count:
            raise RowsDiffer("holds rows without a source_id")
        places = np.array([self._places.get(name, -1) for name in column.dictionary.to_pylist()], np.int64)
        found: npt.NDArray[np.int64] = places[numbers(column.indices)]
        return found


def _numbers(rows: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of numbers, dates or times as it lies in memory."""
    column = rows[name]
    if column.null_count:
        raise RowsDiffer(f"holds rows without {name}")
    kind = {"ingested_at": pa.int64(), "ingest_date": pa.int32()}.get(name, column.type)
    parts = [numbers(chunk.view(kind)) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Digests:
    """Computes the row digests of a file's spans anew."""

    def __init__(self, held: HeldSpans, proof: RowsProof) -> None:
        self._held = held
        self._proof = proof
        counts = np.add.reduceat(held.runs[:, 1], held.first_runs) if len(held) else np.empty(0, np.int64)
        self._ends = np.cumsum(counts)
        # The digester sees by itself where another partition begins, but not where another commit's rows do.
        self._cuts = self._ends[:-1][~held.begins_partition[1:]] if len(held) else self._ends
        self._digester = RowDigester()
        self._found: list[str] = []
        self._at = 0

    def note(self, rows: pa.Table) -> None:
        """Takes in the next rows."""
        begin, end = self._at, self._at + rows.num_rows
        cuts = self._cuts[np.searchsorted(self._cuts, begin) : np.searchsorted(self._cuts, end)]
        for cut in cuts.tolist():
            self._digester.update(rows.slice(self._at - begin, cut - self._at))
            self._digester.end_span()
            self._at = cut
        self._digester.update(rows.slice(self._at - begin))
        self._at = end
        self._found += [digest.sha256 for digest in self._digester.take()] if end in self._ends else []

    def finish(self) -> None:
        """Compares them with those that the commits recorded."""
        self._found += [digest.sha256 for digest in self._digester.take()]
        if len(self._found) != len(self._held):
            raise RowsDiffer("holds another number of stretches of events than the commits claim")
        for span, found in enumerate(self._found):
            recorded = self._held.digest(span)
            if not recorded:
                self._proof.digests_missing += 1
                continue
            self._proof.digests_compared += 1
            if recorded != found:
                self._proof.affected = self._held.taken(np.array([span])).affected()
                raise RowsDiffer("holds other events than were archived: a row digest differs")


class _Content:
    """Nulls and bounds of the columns that a source gives."""

    def __init__(self, stats: dict[str, Any]) -> None:
        self._stats = stats
        self._nulls = dict.fromkeys(EVENT_SCHEMA.names, 0)
        self._bounds: dict[str, tuple[int, int]] = {}

    def note(self, rows: pa.Table) -> None:
        """Takes in the next rows."""
        for name in EVENT_SCHEMA.names:
            self._nulls[name] += rows[name].null_count
        for name in ("event_time", "timestamp_ms"):
            low, high = pc.min_max(rows[name].cast(pa.int64())).as_py().values()
            if low is not None:
                known_low, known_high = self._bounds.get(name, (low, high))
                self._bounds[name] = (min(low, known_low), max(high, known_high))

    def finish(self) -> None:
        """Compares them with the statistics in the log."""
        for name, nulls in self._nulls.items():
            _compare_nulls(name, nulls, self._stats)
        for name in ("event_time", "timestamp_ms"):
            _compare_bounds(name, self._bounds.get(name), self._stats)


def _compare_statistics(groups: list[Any], metadata: Any, stats: dict[str, Any]) -> None:
    """Compares the statistics in the log, by which readers leave files out, with those of the file itself."""
    if stats.get("numRecords") != metadata.num_rows:
        raise RowsDiffer("has another number of rows than the statistics in the log say")
    schema = metadata.schema
    places = {schema.column(number).path: number for number in range(len(schema))}
    for name in EVENT_SCHEMA.names:
        if name in _UNCOUNTED_COLUMNS:
            continue
        nulls = 0
        lows, highs = [], []
        for group in groups:
            found = group.column(places[name]).statistics
            if found is None or not found.has_null_count:
                raise RowsDiffer(f"has no statistics of {name}")
            nulls += found.null_count
            if name in BOUNDED_COLUMNS and found.has_min_max:
                lows.append(found.min_raw)
                highs.append(found.max_raw)
        _compare_nulls(name, nulls, stats)
        if name in BOUNDED_COLUMNS:
            _compare_bounds(name, (min(lows), max(highs)) if lows else None, stats)


def _compare_nulls(name: str, nulls: int, stats: dict[str, Any]) -> None:
    if name != "ingest_date" and stats.get("nullCount", {}).get(name) != nulls:
        raise RowsDiffer(f"has {nulls} nulls in {name}, but the statistics in the log say otherwise")


def _compare_bounds(name: str, bounds: tuple[int, int] | None, stats: dict[str, Any]) -> None:
    logged = (stats.get("minValues", {}).get(name), stats.get("maxValues", {}).get(name))
    if bounds is None:
        is_right = logged == (None, None)
    elif pa.types.is_timestamp(EVENT_SCHEMA.field(name).type):
        is_right = _is_rounded(logged[0], bounds[0], up=False) and _is_rounded(logged[1], bounds[1], up=True)
    else:
        is_right = logged == bounds
    if not is_right:
        raise RowsDiffer(f"holds values of {name} within other bounds than the statistics in the log say")


def _is_rounded(logged: Any, value_us: int, *, up: bool) -> bool:
    """Whether a time in the log is the value in whole milliseconds, an upper bound never below it."""
    if not isinstance(logged, str):
        return False
    logged_us = (dt.datetime.fromisoformat(logged) - _EPOCH) // _MICROSECOND
    if up and value_us <= _LAST_MILLISECOND_US:
        return 0 <= logged_us - value_us < _MILLISECOND_US
    return 0 <= value_us - logged_us < _MILLISECOND_US
