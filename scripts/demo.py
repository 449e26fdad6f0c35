"""`make demo`: the two services' events into an archive, tables from them, proof that nothing is missing, and where to look.

Safe to repeat: events that are there are not made again, files that are archived are not read again.
What doesn't live here: any of the steps; they are the commands and jobs that a user has too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.console import EXIT_INTERRUPTED, run_jobs, use_home

if TYPE_CHECKING:
    from event_archive.config import Config

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"
LANDING = DATA / "landing"
TRUTH = DATA / "truth"


def main() -> int:
    """Runs all steps; 1 if one of them found a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="true events of both streams together")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        if (status := simulate(arguments.events, arguments.seed)) != 0:
            return status
        return archive_and_build(started)
    except KeyboardInterrupt:
        say("Interrupted. Run `make demo` again: it goes on from here.")
        return EXIT_INTERRUPTED


def say(text: str) -> None:
    """A line that is seen at once, also through a pipe."""
    print(text, flush=True)


def simulate(events: int, seed: int) -> int:
    """Lets the demo's customers book and shop, unless they have; the generator's exit code."""
    if (TRUTH / "summary.json").exists():
        made = json.loads((TRUTH / "summary.json").read_text())["arguments"]
        say(
            f"The services' events are in {LANDING.relative_to(ROOT)} already (--events {made['events']} --seed {made['seed']})."
        )
        if (made["events"], made["seed"]) != (events, seed):
            say(
                "`make clean-demo` removes them and what was archived, for a demo with another number or seed."
            )
        return 0
    say(f"Simulating the customers of two services, {events:,} events …")
    places = ["--landing", str(LANDING), "--truth", str(TRUTH)]
    command = [sys.executable, "-m", "demo.generate", "--events", str(events), "--seed", str(seed), *places]
    done = subprocess.run(
        command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        say(done.stderr.strip().splitlines()[-1])
    return done.returncode


def archive_and_build(started: float) -> int:
    """Runs the jobs `ingest`, `refresh` and `verify_archive`, and says what came of them; the exit code."""
    from event_archive.config import load_config
    from event_archive.status import stream_status
    from event_archive.warehouse import pin_streams, read_published

    config = load_config(ROOT / "event_archive.yaml")
    os.chdir(ROOT)
    use_home(ROOT)
    before = sum(stream_status(config, name).events for name in config.streams)
    job_started = time.monotonic()
    say("Starting Dagster …")
    outcome = run_jobs(config, ["ingest"])
    if not outcome.failure:
        published = read_published(config.warehouse)
        pinned = {name: stream.version for name, stream in pin_streams(config).items()}
        is_current = published is not None and published.versions == pinned
        if is_current:
            say("The tables hold everything that is archived; they were not built again.")
        rest = run_jobs(config, ["verify_archive"] if is_current else ["refresh", "verify_archive"])
        outcome = replace(rest, checks={**outcome.checks, **rest.checks})
    if outcome.failure:
        say(outcome.failure)
        return EXIT_INTERRUPTED if outcome.is_interrupted else 1
    seconds = time.monotonic()
    summarize(config, outcome.checks, before, job_seconds=seconds - job_started, seconds=seconds - started)
    return 0


def summarize(
    config: Config, checks: dict[str, bool], events_before: int, *, job_seconds: float, seconds: float
) -> None:
    """What was done, what it amounts to, and where to look."""
    from event_archive.status import stream_status
    from event_archive.warehouse import read_published

    summary = json.loads((TRUTH / "summary.json").read_text())
    statuses = [stream_status(config, name) for name in config.streams]
    events = sum(status.events for status in statuses)
    say("")
    say(f"Archive     {events:,} events, {events - events_before:,} of them new")
    for status in statuses:
        wrote = summary["streams"][status.stream]["lines"]
        complete = "all that the service wrote" if status.events == wrote else f"the service wrote {wrote:,}!"
        say(f"              {status.stream}: {status.events:,}, {complete}")
    published = read_published(config.warehouse)
    if published:
        say(f"Tables      {len(published.marts)} in {published.file.relative_to(ROOT)}")
        for mart in published.marts:
            say(f"              {mart.mart}: {mart.rows:,} rows")
    say(
        f"Checks      {sum(checks.values())} of {len(checks)} run now passed; every byte of the archive is what its log says"
    )
    say(f"Time        {job_seconds:.0f} s in the jobs, {seconds:.0f} s in all")
    say("")
    say("Where to look (or put .venv/bin on your PATH):")
    command = ".venv/bin/event-archive"
    say(f'  {command} sql "select * from seat_availability order by available_seats, flight_id limit 5"')
    say(
        f"  {command} sql \"select payload->>'event_type' as type, count(*) from archive.bookings group by 1 order by 2 desc\""
    )
    say(f"  {command} status")
    say("  make ui      lineage, runs and checks in the browser")


if __name__ == "__main__":
    sys.exit(main())
