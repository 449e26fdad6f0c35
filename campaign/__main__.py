"""The command line of the campaign. What doesn't live here: the rows (`rows`), and what they write (`report`)."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from campaign.ingesters import ROOT, Forks
from campaign.report import RowReport, written
from campaign.rows import ROWS
from campaign.settings import Settings
from campaign.world import Campaign
from demo.kafka.broker import Kafka, start_kafka
from demo.kafka.jars import kafka_version

REPORT = ROOT / "docs" / "campaign.md"


def main() -> int:
    """Runs the rows that were asked for; 0 if the archive stood them all."""
    asked = _arguments()
    settings = Settings(asked.kills, asked.rounds, asked.seconds, asked.seed, asked.flips, asked.histories)
    rows = [row for row in ROWS if row.number in (asked.rows or [row.number for row in ROWS])]
    reports: list[RowReport] = []
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="campaign-", dir=asked.folder)))
        forks = held.enter_context(Forks(folder / "commands"))
        shared = _shared_broker(held, folder / "kafka", is_needed=any(row.needs_broker for row in rows))
        for row in rows:
            print(f"row {row.number}: {row.title}", flush=True)
            with contextlib.ExitStack() as of_row:
                start = _starter(of_row, folder / f"kafka-{row.number}")
                report = row.report(Campaign(folder, forks, shared, start, settings))
            reports.append(report)
            for what, count in report.told():
                print(f"  {what}: {count:,}")
            compared = f"{report.comparisons} comparisons, {report.events:,} events, {report.seconds:.0f} s"
            print(f"  FAILED: {report.failure}" if report.failure else f"  in order: {compared}", flush=True)
    if asked.report:
        when = time.strftime("%Y-%m-%d", time.gmtime())
        text = written(reports, settings, when=when, kafka=kafka_version())
        asked.report.write_text(text, encoding="utf-8")
        print(f"written: {asked.report}")
    return 1 if any(report.failure for report in reports) else 0


def _shared_broker(held: contextlib.ExitStack, folder: Path, *, is_needed: bool) -> Kafka | None:
    return held.enter_context(start_kafka(folder)) if is_needed else None


def _starter(held: contextlib.ExitStack, folder: Path) -> Any:
    """Starts clusters that end with the row."""
    number = 0

    def start(**arguments: Any) -> Kafka:
        nonlocal number
        number += 1
        kafka = held.enter_context(start_kafka(folder / str(number), **arguments))
        held.callback(kafka.kill)
        return kafka

    return start


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m campaign",
        description="Ingests a topic of a real broker under every fault, and compares the archive with an independent "
        "consumer's record after each. Exit code 1 if an event is lost, doubled or changed.",
        epilog="Rows: " + "; ".join(f"{row.number} {row.title}" for row in ROWS) + ".",
    )
    default = Settings()
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", help="only these rows")
    parser.add_argument(
        "--kills", type=int, default=default.kills, help="kills in each of the rows 1 and 2 (%(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=default.rounds,
        help="how often each fault of the other rows is done (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=default.seconds,
        help="how long producers write between two faults of rows 6 and 8 (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="of everything that is random (%(default)s)"
    )
    parser.add_argument(
        "--flips", type=int, default=default.flips, help="bits flipped in row 13 (%(default)s)"
    )
    parser.add_argument(
        "--histories", type=int, default=default.histories, help="histories played in row 14 (%(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where its data goes, and is removed; the system's temporary folder if not given",
    )
    parser.add_argument(
        "--report",
        type=Path,
        help=f"write the report there (`make campaign` writes {REPORT.relative_to(ROOT)})",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
