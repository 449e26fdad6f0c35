"""Which rows of which Parquet files are looked at in one go, so that memory stays bounded whatever the archive's size.

What doesn't live here: what is done with them (`scan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.sql.views import exact_path, quote_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

_BATCH_BYTES = 96 * 2**20
_BATCH_EVENTS = 500_000
_FILES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the archive.

    Attributes:
        files: Absolute paths.
        rows: Of a single file, the first row and the one after the last; None: all rows of all files.
        events: About how many rows.
    """

    files: tuple[str, ...]
    rows: tuple[int, int] | None
    events: int

    def source(self) -> str:
        """The FROM clause, with its condition."""
        paths = ", ".join(quote_text(exact_path(path)) for path in self.files)
        source = f"from read_parquet([{paths}], hive_partitioning = false, file_row_number = true)"
        if self.rows is None:
            return f"{source} where true"
        return f"{source} where file_row_number >= {self.rows[0]} and file_row_number < {self.rows[1]}"


def batches(
    connection: duckdb.DuckDBPyConnection, files: Sequence[str], *, share: float = 1.0
) -> Iterator[Batch]:
    """Splits the rows of `files` into batches of bounded size; small files are put together.

    Args:
        connection: Reads the files' footers.
        files: Absolute paths of Parquet files of the archive.
        share: Which part of the rows will be looked at.
    """
    most_bytes, most_events = _BATCH_BYTES / share, _BATCH_EVENTS / share
    together: list[str] = []
    together_bytes = together_events = 0
    for path, rows, value_bytes in _sizes(connection, files):
        if rows == 0:
            continue
        pieces = max(value_bytes / most_bytes, rows / most_events)
        if pieces > 1:
            step = max(1, int(rows / pieces))
            for first in range(0, rows, step):
                yield Batch((path,), (first, first + step), min(step, rows - first))
            continue
        if together and (
            together_bytes + value_bytes > most_bytes
            or together_events + rows > most_events
            or len(together) >= _FILES_AT_ONCE
        ):
            yield Batch(tuple(together), None, together_events)
            together, together_bytes, together_events = [], 0, 0
        together.append(path)
        together_bytes += value_bytes
        together_events += rows
    if together:
        yield Batch(tuple(together), None, together_events)


def _sizes(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Each file with its rows and the bytes of its values before compression."""
    for start in range(0, len(files), _FILES_AT_ONCE):
        some = files[start : start + _FILES_AT_ONCE]
        paths = ", ".join(quote_text(exact_path(path)) for path in some)
        found = connection.execute(
            "select file_name, sum(row_group_num_rows), sum(total_uncompressed_size) "
            f"from parquet_metadata([{paths}]) where path_in_schema = 'value' group by file_name"
        ).fetchall()
        sizes = {name: (int(rows), int(size)) for name, rows, size in found}
        for path in some:
            yield (path, *sizes.get(path, (0, 0)))
