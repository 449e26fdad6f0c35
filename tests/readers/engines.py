"""What another engine finds in tables: `python -m tests.readers.engines ENGINE OUTPUT TABLE…`, in an environment that has the engine.

It runs the engine's snippet of `docs/readers.md` for each table, asks the engine for counts, and takes every row out of it. Only the
standard library and the engine are needed. What doesn't live here: what the answer must be (`test_readers.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DOCUMENT = Path(__file__).parents[2] / "docs" / "readers.md"
DOCUMENTED_TABLE = "data/archive/bookings"
_MODULUS = 2**128

GROUPS = (
    "select source_id, source_partition, count(*), sum(source_offset), min(source_offset), max(source_offset)"
)
ROWS = "source_id, source_partition, source_offset, {event_time}, timestamp_ms, timestamp_type, key, value, headers, commit_version"
MIDDLE = 40
"""An offset that is in the middle of most partitions: some files hold only smaller ones, and must be left out rightly."""


def snippet(engine: str) -> str:
    """The code that the page shows for an engine: the first Python block below its heading."""
    section = DOCUMENT.read_text().split(f"\n## {engine}\n")[1].split("\n## ")[0]
    code: str = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    return code


def run_snippet(engine: str, table: str) -> dict[str, Any]:
    """Runs it over another table, and gives what it has defined."""
    defined: dict[str, Any] = {}
    code = snippet(engine)
    assert DOCUMENTED_TABLE in code
    with contextlib.redirect_stdout(sys.stderr):
        exec(compile(code.replace(DOCUMENTED_TABLE, table), engine, "exec"), defined)  # noqa: S102 - our own page
    return defined


def summary(
    groups: Iterable[Iterable[Any]], beyond_middle: int, rows: Iterable[Iterable[Any]]
) -> dict[str, Any]:
    """What is compared.

    Args:
        groups: of each source and partition: count, sum, least and greatest offset, as the engine counts them.
        beyond_middle: how many rows have an offset of at least `MIDDLE`, as the engine finds them.
        rows: all rows, in any order; the columns are those of `ROWS`.
    """
    digest = count = 0
    for row in rows:
        canonical = repr(tuple(plain(value) for value in row)).encode()
        digest = (digest + int.from_bytes(hashlib.md5(canonical, usedforsecurity=False).digest())) % _MODULUS
        count += 1
    return {
        "groups": sorted([plain(value) for value in group] for group in groups),
        "beyond_middle": int(beyond_middle),
        "rows": count,
        "digest": f"{digest:032x}",
    }


def plain(value: Any) -> Any:
    """A value of any engine as Python's own: bytes, str, int, None, and headers as pairs."""
    if value is None or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "__int__"):
        return int(value)
    return [(plain(header["key"]), plain(header["value"])) for header in value]


def _duckdb(table: str) -> dict[str, Any]:
    con = run_snippet("DuckDB", table)["con"]
    rows = con.sql(f"select {ROWS.format(event_time='epoch_us(event_time)')} from bookings").fetchall()
    beyond = con.sql(f"select count(*) from bookings where source_offset >= {MIDDLE}").fetchone()[0]
    return summary(con.sql(f"{GROUPS} from bookings group by 1, 2").fetchall(), beyond, rows)


def _polars(table: str) -> dict[str, Any]:
    import polars as pl  # type: ignore[import-not-found] # in an environment of its own

    bookings = run_snippet("Polars", table)["bookings"]
    offset = pl.col("source_offset")
    groups = bookings.group_by("source_id", "source_partition").agg(
        pl.len(), offset.sum().alias("sum"), offset.min().alias("min"), offset.max().alias("max")
    )
    columns = ROWS.format(event_time="event_time").split(", ")
    rows = bookings.with_columns(pl.col("event_time").dt.epoch("us")).select(columns)
    beyond = bookings.filter(offset >= MIDDLE).select(pl.len()).collect().item()
    return summary(groups.collect().iter_rows(), beyond, rows.collect().iter_rows())


def _pyarrow(table: str) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.dataset as ds

    bookings = run_snippet("pyarrow", table)["bookings"]
    events = bookings.to_table()
    functions = ("count", "sum", "min", "max")
    groups = events.group_by(["source_id", "source_partition"]).aggregate(
        [("source_offset", function) for function in functions]
    )
    names = ["source_id", "source_partition", *(f"source_offset_{function}" for function in functions)]
    at = events.schema.get_field_index("event_time")
    rows = events.set_column(at, "event_time", events["event_time"].cast(pa.int64()))
    columns = ROWS.format(event_time="event_time").split(", ")
    return summary(
        _tuples(groups.select(names)),
        bookings.count_rows(filter=ds.field("source_offset") >= MIDDLE),
        _tuples(rows.select(columns)),
    )


def _pandas(table: str) -> dict[str, Any]:
    import pandas as pd

    bookings = run_snippet("pandas", table)["bookings"]
    offsets = bookings.groupby(["source_id", "source_partition"])["source_offset"]
    groups = offsets.agg(["count", "sum", "min", "max"]).reset_index()
    # Microseconds as they are: a pandas timestamp of nanoseconds ends in the year 2262.
    rows = bookings.assign(event_time=bookings["event_time"].astype("int64[pyarrow]"))
    columns = ROWS.format(event_time="event_time").split(", ")
    values = (
        tuple(None if value is pd.NA else value for value in row)
        for row in rows[columns].itertuples(index=False, name=None)
    )
    return summary(
        groups.itertuples(index=False, name=None), (bookings["source_offset"] >= MIDDLE).sum(), values
    )


def _spark(table: str) -> dict[str, Any]:
    found = run_snippet("Spark", table)
    found["bookings"].createOrReplaceTempView("bookings")
    sql = found["spark"].sql
    rows = sql(f"select {ROWS.format(event_time='unix_micros(event_time)')} from bookings").collect()
    beyond = sql(f"select count(*) from bookings where source_offset >= {MIDDLE}").first()[0]
    return summary(sql(f"{GROUPS} from bookings group by 1, 2").collect(), beyond, rows)


def _tuples(table: Any) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


ENGINES: dict[str, Callable[[str], dict[str, Any]]] = {
    "duckdb": _duckdb,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "pandas": _pandas,
    "spark": _spark,
}


def main() -> None:
    """Writes what the engine finds in each table as JSON."""
    engine, output, *tables = sys.argv[1:]
    Path(output).write_text(json.dumps({table: ENGINES[engine](table) for table in tables}))


if __name__ == "__main__":
    main()
