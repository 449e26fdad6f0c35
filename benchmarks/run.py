"""`make bench`: measures and prints. Name figures to have only these: `python -m benchmarks.run ingest kafka`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    compact_figures,
    growth_figures,
    ingest_figures,
    kafka_figures,
    recompute_figures,
    sql_figures,
    verify_figures,
)
from demo.kafka.jars import KafkaUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

FIGURES: dict[str, Callable[[Path], None]] = {
    "ingest": ingest_figures.beside_the_bare_loop,
    "large": ingest_figures.one_large_file,
    "many": ingest_figures.many_files,
    "sql": sql_figures.answers,
    "stream": sql_figures.streaming,
    "files": growth_figures.ten_billion_rows,
    "verify": verify_figures.beside_sha256sum,
}
SCALED_FIGURES: dict[str, Callable[[Path, float], None]] = {
    "growth": growth_figures.long_logs,
    "compact": compact_figures.a_day,
    "recompute": recompute_figures.beside_plain_sql,
    "recompute-memory": recompute_figures.with_little_memory,
}
LARGE_FIGURES: dict[str, Callable[[Path, float], None]] = {
    "recompute-large": recompute_figures.fifty_million,
}
"""Measured only when they are named."""
KAFKA_FIGURES: dict[str, Callable[[Path, float], None]] = {
    "kafka": kafka_figures.beside_a_bare_consumer,
    "kafka-memory": kafka_figures.memory,
    "kafka-follow": kafka_figures.following,
    "kafka-replay": kafka_figures.there_and_back,
}


def main() -> None:
    """Measures what was asked for, each in an empty folder."""
    usual = [*FIGURES, *SCALED_FIGURES, *KAFKA_FIGURES]
    names = [*usual, *LARGE_FIGURES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", choices=[*names, []], metavar="FIGURE", help=", ".join(names))
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="so many times the events of the kafka and recompute figures and the commits of growth; 0.01 to try",
    )
    arguments = parser.parse_args()
    for name in arguments.figures or usual:
        with tempfile.TemporaryDirectory(prefix="event-archive-bench-") as folder:
            if name in FIGURES:
                FIGURES[name](Path(folder))
                continue
            if scaled := (SCALED_FIGURES | LARGE_FIGURES).get(name):
                scaled(Path(folder), arguments.scale)
                continue
            try:
                KAFKA_FIGURES[name](Path(folder), arguments.scale)
            except KafkaUnavailable as reason:
                print(f"No figure {name}, since there is no Kafka: {reason}")


if __name__ == "__main__":
    main()
