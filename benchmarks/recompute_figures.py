"""A rebuild beside the same marts by plain SQL and by PySpark, a refresh after 1 % new events and after none, and both with little memory.

What doesn't live here: the events (`recompute_events`) and what is compared with (`recompute_plain`, `recompute_pyspark`).
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from benchmarks.measuring import Figure, event_archive, median, run
from benchmarks.recompute_events import SIMULATED_EVENTS, add_events, make_archive
from event_archive.config import load_config
from event_archive.warehouse import layout, pin_streams, read_published
from event_archive.warehouse.digest import table_digest
from tests.readers.environments import EngineUnavailable, environment

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 10_000_000
LIMITED_EVENTS = 20_000_000
LARGE_EVENTS = 50_000_000
NEW_SHARE = 0.01
RUNS = 3
LIMITED_BYTES = 4 * 10**9
LIMITS = "compute: {threads: 2, memory_bytes: 1500 MB, max_spill_bytes: 100 GB}\n"
HERE = Path(__file__).parent
SUMS = {
    "booking_history": "sum(sequence), sum(state_number), count(is_after_a_gap or null)",
    "bookings": "sum(last_sequence), sum(fare_usd), sum(seat_changes), count(passenger_id)",
    "cart_abandonment_daily": "sum(carts), sum(abandoned_value_usd)",
    "cart_events": "sum(cart_version), sum(unit_price_usd), sum(total_usd)",
    "cart_items": "sum(quantity), sum(line_value_usd)",
    "carts": "sum(units), sum(value_usd), sum(checked_out_total_usd)",
    "flight_load_daily": "sum(flights), sum(load_factor)",
    "product_demand_daily": "sum(additions), sum(ordered_value_usd)",
    "seat_availability": "sum(booked_seats), sum(len(taken_seats)), sum(epoch_ms(departure_date))",
}
"""What PySpark's marts are compared by: it prints values in another way, so that they have no digest in common with ours."""


@dataclasses.dataclass(frozen=True)
class Timed:
    """A run, and the seconds of all cores that it took: they tell more when other programs share the machine."""

    figure: Figure
    cpu_seconds: float

    def __str__(self) -> str:
        return f"{self.figure.seconds:7.1f} s {self.cpu_seconds:7.1f} s of CPU {self.figure.peak_mb:6.0f} MB"


def beside_plain_sql(folder: Path, scale: float) -> None:
    """Rebuild and plain SQL in turn, equal to the digest; PySpark; refreshes; each a whole process."""
    events = round(EVENTS * scale)
    project = folder / "project"
    make_archive(project, events, simulated=_simulated(events))
    print(
        f"recompute: {events:,} events, medians of {RUNS} whole processes in turn (wall, CPU, peak of the largest process)"
    )
    ours, plain = [], []
    for number in range(RUNS):
        ours.append(_timed(lambda: event_archive("rebuild", cwd=project)))
        file = folder / f"plain-{number}.duckdb"
        plain.append(_timed(partial(_plain, project, file)))
        if number == 0:
            _refuse_other_digests(_digests_published(project), _digests(file))
        file.unlink()
    rebuild, plain_sql = _median(ours), _median(plain)
    print(f"  rebuild, checks and digests included  {rebuild}")
    print(
        f"  plain SQL, same digests               {plain_sql}   ours takes {_ratio(rebuild, plain_sql)} times as long"
    )
    _beside_pyspark(folder, project, rebuild)
    refreshes = []
    for _ in range(RUNS):
        added = add_events(project, NEW_SHARE)
        refreshes.append(_timed(lambda: event_archive("refresh", cwd=project)))
    refresh = _median(refreshes)
    print(f"  refresh after {added:,} new events      {refresh}   {_ratio(refresh, rebuild)} of a rebuild")
    nothing = _median([_timed(lambda: event_archive("refresh", cwd=project)) for _ in range(RUNS)])
    print(f"  refresh after nothing new             {nothing}")
    incremental = _digests_published(project)
    event_archive("rebuild", cwd=project)
    _refuse_other_digests(incremental, _digests_published(project))
    print("  the refreshed marts have the digests of a rebuild")


def with_little_memory(folder: Path, scale: float) -> None:
    """A rebuild of 20M events, of which one in a hundred cart events has 10 KB, in processes of at most 4 GB with 2 threads; same digests as without limits."""
    events = round(LIMITED_EVENTS * scale)
    project = folder / "project"
    make_archive(project, events, is_padded=True, simulated=_simulated(events))
    print(f"recompute: {events:,} events, 10 KB carts among them (wall, CPU, peak of the largest process)")
    free = _timed(lambda: event_archive("rebuild", cwd=project))
    digests = _digests_published(project)
    print(f"  rebuild without limits       {free}")
    with (project / "event_archive.yaml").open("a") as configuration:
        configuration.write(LIMITS)
    # Each process, dbt's too, is refused memory beyond that by the kernel.
    bounded = ("prlimit", f"--data={LIMITED_BYTES}", sys.executable, "-m", "event_archive", "rebuild")
    limited = _timed(lambda: run(*bounded, cwd=project))
    _refuse_other_digests(digests, _digests_published(project))
    print(f"  {LIMITED_BYTES / 10**9:.0f} GB for a process, 2 threads {limited}   same digests")


def fifty_million(folder: Path, scale: float) -> None:
    """Rebuild and refresh of 50M events: `make bench-large`."""
    events = round(LARGE_EVENTS * scale)
    project = folder / "project"
    make_archive(project, events, simulated=_simulated(events))
    for file in (project / "landing").rglob("*.jsonl"):
        file.unlink()  # archived
    print(f"recompute: {events:,} events (wall, CPU, peak of the largest process)")
    rebuild = _timed(lambda: event_archive("rebuild", cwd=project))
    print(f"  rebuild                       {rebuild}")
    added = add_events(project, NEW_SHARE)
    refresh = _timed(lambda: event_archive("refresh", cwd=project))
    print(f"  refresh after {added:,} new  {refresh}   {_ratio(refresh, rebuild)} of a rebuild")
    incremental = _digests_published(project)
    event_archive("rebuild", cwd=project)
    _refuse_other_digests(incremental, _digests_published(project))
    print("  the refreshed marts have the digests of a rebuild")


def _beside_pyspark(folder: Path, project: Path, rebuild: Timed) -> None:
    try:
        spark = environment("spark")
    except EngineUnavailable as reason:
        print(f"  no PySpark to compare with: {reason}")
        return
    pinned = folder / "pinned.json"
    pinned.write_text(json.dumps({name: stream.files for name, stream in _pinned(project).items()}))
    marts = folder / "pyspark"
    marts.mkdir()
    timed = _timed(
        lambda: run(str(spark.python), str(HERE / "recompute_pyspark.py"), str(pinned), str(marts))
    )
    published = layout.published_file(load_config(project / "event_archive.yaml").warehouse)
    with closing(duckdb.connect()) as connection:
        connection.execute(f"attach '{published}' as ours (read_only)")
        for mart, sums in SUMS.items():
            ours = connection.execute(f"select count(*), {sums} from ours.main.{mart}").fetchone()
            theirs = connection.execute(f"select count(*), {sums} from '{marts / mart}/*.parquet'").fetchone()
            if ours != theirs:
                sys.exit(f"{mart}: {ours} here, {theirs} by PySpark")
    # Its JVM is no child of ours: what it takes of processor and memory isn't known here.
    print(
        f"  PySpark local[*], same sums           {timed.figure.seconds:7.1f} s   {_ratio(timed, rebuild)} times as long as ours"
    )


def _plain(project: Path, file: Path) -> Figure:
    return run(
        sys.executable,
        "-m",
        "benchmarks.recompute_plain",
        str(project / "event_archive.yaml"),
        str(file),
        cwd=HERE.parent,
    )


def _timed(measure: Callable[[], Figure]) -> Timed:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    figure = measure()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Timed(figure, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _median(timed: list[Timed]) -> Timed:
    middle = median([one.figure for one in timed])
    return next(one for one in timed if one.figure is middle)


def _ratio(one: Timed, other: Timed) -> str:
    return f"{one.figure.seconds / other.figure.seconds:.2f}"


def _simulated(events: int) -> int:
    return min(SIMULATED_EVENTS, max(1_000, events // 5))


def _pinned(project: Path) -> Any:
    return pin_streams(load_config(project / "event_archive.yaml"))


def _digests_published(project: Path) -> dict[str, tuple[int, str]]:
    published = read_published(load_config(project / "event_archive.yaml").warehouse)
    if published is None:
        sys.exit("nothing has been published")
    return {mart.mart: (mart.rows, mart.digest) for mart in published.marts}


def _digests(file: Path) -> dict[str, tuple[int, str]]:
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        connection.execute("set timezone = 'UTC'")
        return {
            mart: (digest.rows, digest.digest)
            for mart in SUMS
            if (digest := table_digest(connection, "main", mart)) is not None
        }


def _refuse_other_digests(ours: dict[str, tuple[int, str]], theirs: dict[str, tuple[int, str]]) -> None:
    other = [mart for mart in SUMS if ours[mart] != theirs[mart]]
    if other:
        sys.exit(f"not the same: {', '.join(f'{mart} {ours[mart]} and {theirs[mart]}' for mart in other)}")
