"""`make bench`: measures and prints. Name figures to have only these: `python -m benchmarks.run ingest sql`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import ingest_figures, sql_figures

if TYPE_CHECKING:
    from collections.abc import Callable

FIGURES: dict[str, Callable[[Path], None]] = {
    "ingest": ingest_figures.beside_the_bare_loop,
    "large": ingest_figures.one_large_file,
    "many": ingest_figures.many_files,
    "sql": sql_figures.answers,
    "stream": sql_figures.streaming,
}


def main() -> None:
    """Measures what was asked for, each in an empty folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "figures", nargs="*", choices=[*FIGURES, []], metavar="FIGURE", help=", ".join(FIGURES)
    )
    for name in parser.parse_args().figures or FIGURES:
        with tempfile.TemporaryDirectory(prefix="event-archive-bench-") as folder:
            FIGURES[name](Path(folder))


if __name__ == "__main__":
    main()
