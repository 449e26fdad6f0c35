"""How fast `event-archive sql` answers, and that a large result streams."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.ingest_figures import LINES, RUNS, write_lines
from benchmarks.measuring import event_archive, median, run, write_config

if TYPE_CHECKING:
    from pathlib import Path

STREAMED_ROWS = 100_000_000


def answers(folder: Path) -> None:
    """Whole processes over an archive of 2M events."""
    write_config(folder, "bench")
    write_lines(folder / "landing" / "bench" / "a.jsonl", LINES)
    event_archive("ingest", "--settled", cwd=folder)
    print(f"sql over {LINES:,} events, median of {RUNS} whole processes:")
    for query in (
        "select count(*) from archive.bench",
        "select payload->>'flight_id' as flight, count(*) from archive.bench group by 1 order by 2 desc limit 10",
    ):
        figure = median([event_archive("sql", query, cwd=folder) for _ in range(RUNS)])
        print(f"  {figure.seconds:5.2f} s  {figure.peak_mb:5.0f} MB peak  {query}")


def streaming(folder: Path) -> None:
    """100M rows in CSV, thrown away."""
    write_config(folder, "bench")
    query = f"select range from range({STREAMED_ROWS})"
    figure = run(
        "sh", "-c", f"'{sys.executable}' -m event_archive sql '{query}' --format csv | wc -l", cwd=folder
    )
    rows = int(figure.output) - 1
    print(f"sql: {rows:,} rows as csv in {figure.seconds:.1f} s, {figure.peak_mb:.0f} MB peak")
