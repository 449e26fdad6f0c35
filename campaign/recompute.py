"""Incremental equals rebuild, for thousands of histories, on all cores: `python -m campaign.recompute`, and a row of the campaign.

What doesn't live here: the property, histories and how they are played (`tests.recompute`, which looks at some hundreds of them).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.settings import Settings
from campaign.truth import TruthFailed
from demo.generate import end_with_parent
from tests.recompute.histories import STREAMS, Backfill, Commit, Compact
from tests.recompute.property import NotEqual, check_histories
from tests.recompute.replay import ReplayedWarehouse
from tests.recompute.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from campaign.report import RowReport
    from campaign.world import Campaign
    from tests.recompute.histories import History

DBT_PROJECT = Path(__file__).parents[1] / "dbt_project"
HISTORIES = Settings().histories
_AT_ONCE = 50
_MODELS_OF = {
    "bookings": ("stg_flight_booking__bookings_decoded+", "int_flight_booking__airport_time_zones"),
    "cart_events": ("stg_shopping_cart__cart_events_decoded+",),
}
# The models of one stream don't touch those of the other: alone, a history takes half the time. Every fifth part is of both.
_SCOPES = (("bookings",), ("cart_events",), ("bookings",), ("cart_events",), STREAMS)


@dataclass(frozen=True, slots=True)
class Part:
    """Some histories."""

    number: int
    """The same number gives the same histories."""
    count: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen."""

    done: Counter[str]
    failure: str = ""


def any_history(campaign: Campaign, report: RowReport) -> None:
    """The row of the campaign.

    Raises:
        TruthFailed: After some history, a relation isn't what a rebuild gives; with the simplest such history.
    """
    folder = campaign.folder / "recompute"
    folder.mkdir()
    settings = campaign.settings
    looked = look(settings.histories, settings.seed, folder, jobs=os.cpu_count() or 1)
    report.comparisons += looked.done.pop("histories", 0)
    report.events += looked.done.pop("events", 0)
    report.done.update(looked.done)
    if looked.failure:
        raise TruthFailed(looked.failure)


def look(histories: int, seed: int, folder: Path, *, jobs: int) -> Looked:
    """Looks at histories, and says now and then how far it is.

    Args:
        histories: How many, at least.
        seed: Of what is random.
        folder: For what dbt leaves behind.
        jobs: How many processes.
    """
    context = multiprocessing.get_context("spawn")
    parts = [Part(seed * 1_000_000 + first, _AT_ONCE) for first in range(-(-histories // _AT_ONCE))]
    done: Counter[str] = Counter()
    started = time.monotonic()
    with ProcessPoolExecutor(1, context) as noting:
        statements = noting.submit(_noted, folder).result()
    with ProcessPoolExecutor(jobs, context, end_with_parent) as pool:
        running = [pool.submit(_look_at, part, statements) for part in parts]
        for number, future in enumerate(as_completed(running), 1):
            looked = future.result()
            done += looked.done
            if looked.failure:
                pool.shutdown(cancel_futures=True)
                return Looked(done, looked.failure)
            if number % 20 == 0 or number == len(parts):
                seconds = time.monotonic() - started
                print(f"  {done['histories']:,} of {histories:,} histories, {seconds:.0f} s", flush=True)
    return Looked(done)


def _noted(folder: Path) -> str:
    """What dbt sends; in a process of its own, as dbt leaves much behind in the one that it has run in."""
    from tests.recompute.real_dbt import Dbt, ParquetArchive
    from tests.recompute.statements import noted

    return noted(Dbt(DBT_PROJECT, folder / "dbt"), ParquetArchive(folder / "archive")).to_json()


def _look_at(part: Part, statements_json: str) -> Looked:
    statements = Statements.from_json(statements_json)
    streams = _SCOPES[part.number % len(_SCOPES)]
    models = statements.selected(selector for stream in streams for selector in _MODELS_OF[stream])
    warehouse = ReplayedWarehouse(
        statements.only(models),
        streams=streams,
        keeps_digests=len(streams) == len(STREAMS),
        is_optimised=part.number % 3 == 0,
    )
    done: Counter[str] = Counter()
    try:
        check_histories(
            warehouse,
            examples=part.count,
            number=part.number,
            streams=streams,
            seen=lambda history: done.update(_counted(history)),
        )
    except NotEqual as error:
        return Looked(done, str(error))
    finally:
        warehouse.connection.close()
    return Looked(done)


def _counted(history: History) -> Counter[str]:
    """What happens in a history."""
    done = Counter({"histories": 1})
    for step in history:
        if isinstance(step, Commit):
            done["commits"] += 1
            done["events"] += len(step.events)
        elif isinstance(step, Compact):
            done["compactions"] += 1
        elif isinstance(step, Backfill):
            done["ranges computed again"] += 1
        else:
            done["refreshes"] += 1
            done["… of some models only"] += bool(step.select)
            done["… rebuilding"] += step.in_full
            done["… after a change of code"] += bool(step.stale)
            done["… killed"] += step.killed_after is not None
            done["… thrown away"] += step.is_thrown_away
    return +done


def main(arguments: Sequence[str] | None = None) -> int:
    """Looks at as many histories as were asked for; 0 if the property held for all."""
    parser = argparse.ArgumentParser(
        prog="python -m campaign.recompute",
        description="Plays histories of an archive and its tables, and compares the tables that were refreshed in steps with their rebuild.",
    )
    parser.add_argument("--histories", type=int, default=HISTORIES, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="recompute-") as folder:
        looked = look(asked.histories, asked.seed, Path(folder), jobs=asked.jobs)
    for what, count in sorted(looked.done.items(), key=lambda item: item[0].startswith("…")):
        print(f"{what}: {count:,}")
    print(looked.failure or "After each of them, every relation was what a rebuild gives.")
    return 1 if looked.failure else 0


if __name__ == "__main__":
    sys.exit(main())
