"""A table turns out wrong after a year: its model is put right, and every row of the year is computed again, from the archive alone.

What doesn't live here: that rebuilds of any history are equal (tests/recompute), and what `diff` shows (tests/warehouse).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SHOP = ZoneInfo("America/New_York")
Days = dict[str, tuple[int, str]]


def sales() -> list[dict[str, Any]]:
    """A year of a shop's sales, some thirteen a day until late in the evening; in the shop's time a sale at 21:00 is of the day before it in UTC."""
    rng = random.Random(20250101)
    opening = dt.datetime(2025, 1, 1, 9, tzinfo=SHOP)
    found: list[dict[str, Any]] = []
    for day in range(365):
        for _ in range(rng.randrange(10, 17)):
            # Added to the wall clock, as the shop's hours are: also on the two days on which clocks are changed.
            sold = opening + dt.timedelta(days=day, minutes=rng.randrange(14 * 60))
            found.append(
                {
                    "event_id": f"s{len(found)}",
                    "sold_at": sold.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
                    "item": rng.choice(["tea", "coffee", "cocoa"]),
                    "price": rng.randrange(100, 2000) / 100,
                }
            )
    return found


def days_of(events: Iterable[dict[str, Any]], zone: dt.tzinfo) -> Days:
    """What the daily table must say, reckoned without dbt, DuckDB or the archive."""
    counts: dict[str, int] = defaultdict(int)
    cents: dict[str, int] = defaultdict(int)
    for event in events:
        day = dt.datetime.fromisoformat(event["sold_at"]).astimezone(zone).date().isoformat()
        counts[day] += 1
        cents[day] += round(100 * event["price"])
    return {day: (counts[day], f"{cents[day] // 100}.{cents[day] % 100:02d}") for day in counts}


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs a command as a user does, with nobody there to answer a question, and gives what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "event_archive", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def published(folder: Path) -> Days:
    """The daily table as readers see it."""
    query = "select sold_date, events, cast(total_price as varchar) as total from daily_sales"
    rows = json.loads(run(folder, "sql", query, "--format", "json"))
    return {row["sold_date"]: (row["events"], row["total"]) for row in rows}


def land(folder: Path, name: str, events: Iterable[dict[str, Any]]) -> None:
    """Puts events into the landing folder, as a file of its own."""
    path = folder / "data" / "landing" / "sales" / name
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def files_of(folder: Path) -> dict[str, str]:
    """All files of a folder, with a hash of each."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_year_is_computed_again_in_another_time_zone_without_reading_an_event_again(tmp_path: Path) -> None:
    """UTC days are put right to be the shop's: model, rebuild, diff, publish, and back; the source is gone by then, the archive isn't touched."""
    events = sales()
    late, rest = events[100:130], [*events[:100], *events[130:]]
    run(tmp_path, "init")
    (tmp_path / "sample.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events[:500]))
    run(tmp_path, "scaffold", "stream", "sales", "--sample", "sample.jsonl")
    run(
        tmp_path,
        *("scaffold", "mart", "daily_sales", "--stream", "sales", "--key", "sold_at", "--level", "day"),
    )
    config = tmp_path / "event_archive.yaml"
    config.write_text(config.read_text() + "\npublish: ask\n")

    # The year: month by month into the archive, the tables half a year at a time, with events that come late and twice.
    halves = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    land(tmp_path, "first-half.jsonl", halves[0])
    run(tmp_path, "ingest")
    run(tmp_path, "refresh", "--publish", "always")
    for number, part in enumerate([halves[1][:1000], [*halves[1][1000:], *halves[1][:50]], late]):
        land(tmp_path, f"second-half-{number}.jsonl", part)
        run(tmp_path, "ingest")
    run(tmp_path, "refresh", "--publish", "always")
    wrong, right = days_of(events, dt.UTC), days_of(events, SHOP)
    assert len(right) == 365
    assert published(tmp_path) == wrong
    assert wrong != right

    # It is found to be wrong. By now nothing is left of the source, and nobody may write to the archive.
    shutil.rmtree(tmp_path / "data" / "landing")
    (tmp_path / "sample.jsonl").unlink()
    archive = files_of(tmp_path / "data" / "archive")
    [model] = (tmp_path / "dbt_project").rglob("int_sales__daily_sales_events.sql")
    assert "at time zone 'UTC'" in model.read_text()
    model.write_text(model.read_text().replace("at time zone 'UTC'", "at time zone 'America/New_York'"))

    rebuilt = run(tmp_path, "rebuild")
    waiting = re.search(r"\d{8}T\d{12}Z-[0-9a-f]{6}(?= waits)", rebuilt)
    assert waiting is not None, rebuilt
    build = waiting.group()
    assert published(tmp_path) == wrong  # nobody has published it

    changed = sum(right[day] != wrong[day] for day in right.keys() & wrong.keys())
    shown = json.loads(run(tmp_path, "diff", "live", build, "--json", code=1))
    [daily] = [mart for mart in shown["diff"]["marts"] if mart["mart"] == "daily_sales"]
    assert (daily["rows_a"], daily["rows_b"]) == (len(wrong), len(right))
    assert (daily["rows"]["added"], daily["rows"]["removed"]) == (0, len(wrong.keys() - right.keys()))
    assert daily["rows"]["changed"] == changed > 300

    run(tmp_path, "publish", build)
    assert published(tmp_path) == right
    run(tmp_path, "rollback")
    assert published(tmp_path) == wrong
    run(tmp_path, "publish", build)
    assert published(tmp_path) == right
    assert "Nothing to do" in run(tmp_path, "refresh")  # what is published is what the models now say

    assert files_of(tmp_path / "data" / "archive") == archive
