"""The demo's marts by plain SQL in one DuckDB connection: `python -m benchmarks.recompute_plain CONFIGURATION NEW_FILE`.

The yardstick of a rebuild. What doesn't live here: the SQL (`recompute_plain.sql`), and the comparison (`recompute_figures`).
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path

import duckdb

from event_archive.config import load_config
from event_archive.sql.views import quote_text
from event_archive.warehouse import pin_streams

SQL = Path(__file__).with_suffix(".sql")


def main() -> None:
    """Fills a new file, and prints how many seconds each of its tables took."""
    configuration, target = map(Path, sys.argv[1:])
    seconds = {}
    with closing(duckdb.connect(str(target))) as connection:
        connection.execute("set timezone = 'UTC'; set preserve_insertion_order = false; set threads = 4")
        connection.execute("attach ':memory:' as archived")
        for stream, pinned in pin_streams(load_config(configuration)).items():
            paths = ", ".join(map(quote_text, pinned.files))
            connection.execute(
                f"create view archived.{stream} as select * from read_parquet([{paths}], hive_partitioning = false)"
            )
        for statement in duckdb.extract_statements(SQL.read_text()):
            started = time.monotonic()
            connection.execute(statement)
            name = statement.query.split(" as", 1)[0].rsplit(" ", 1)[-1]
            seconds[name] = time.monotonic() - started
        started = time.monotonic()
        connection.execute("checkpoint")
        seconds["checkpoint"] = time.monotonic() - started
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
