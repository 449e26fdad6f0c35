"""`make demo`: the two services' events into an archive, tables from them, proof that nothing is missing, and where to look.

Safe to repeat: events that are there are not made again, files that are archived are not read again.
What doesn't live here: any of the steps; they are the commands and jobs that a user has too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster._core.execution.plan.objects import StepFailureData

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"
LANDING = DATA / "landing"
TRUTH = DATA / "truth"
QUIET_RUN = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # what happened is in the UI


def main() -> int:
    """Runs all steps; 1 if one of them found a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="true events of both streams together")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    started = time.monotonic()
    simulate(arguments.events, arguments.seed)
    job_started = time.monotonic()
    outcome = run_jobs()
    job_seconds = time.monotonic() - job_started
    if outcome is None:
        return 1
    summarize(outcome, job_seconds=job_seconds, seconds=time.monotonic() - started)
    return 0


def say(text: str) -> None:
    """A line that is seen at once, also through a pipe."""
    print(text, flush=True)


class StepCounter(io.StringIO):
    """What dbt prints, as one line that counts its steps; whole it is in the Dagster UI."""

    def write(self, text: str) -> int:
        """Shows the newest step on a terminal."""
        step = re.search(r"^\d+ of \d+ ", text)
        if step and sys.stderr.isatty():
            sys.stderr.write(f"\r  dbt: step {step.group()}\r")
        return len(text)


def reason(failure: StepFailureData) -> str:
    """The sentence with which a step failed on purpose, else the first line of its error."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return failure.error.message.strip() if failure.error else "no reason was given"


def versions(pinned: Mapping[str, Any]) -> dict[str, int]:
    """The archive version of each stream that a build would see."""
    return {name: stream.version for name, stream in pinned.items()}


def simulate(events: int, seed: int) -> None:
    """Lets the demo's customers book and shop, unless they have."""
    if (TRUTH / "summary.json").exists():
        say(f"The services' events are in {LANDING.relative_to(ROOT)} already; none were made again.")
        return
    say(f"Simulating the customers of two services, {events:,} events …")
    places = ["--landing", str(LANDING), "--truth", str(TRUTH)]
    command = [sys.executable, "-m", "demo.generate", "--events", str(events), "--seed", str(seed), *places]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def run_jobs() -> dict[str, Any] | None:
    """Runs the Dagster jobs `ingest`, `refresh` and `verify_archive`, recorded where the UI shows them; what they did, None if one failed."""
    say("Starting Dagster …")
    import dagster as dg

    from event_archive.config import load_config
    from event_archive.status import stream_status
    from event_archive.warehouse import current_build_id, pin_streams, read_published
    from orchestration.definitions import build_definitions

    os.chdir(ROOT)
    config = load_config(ROOT / "event_archive.yaml")
    repository = build_definitions(config=config).get_repository_def()
    before = {name: stream_status(config, name).events for name in config.streams}
    checks: dict[str, bool] = {}
    with dg.DagsterInstance.get() as instance:
        for job in ("ingest", "refresh", "verify_archive"):
            published = read_published(config.warehouse) if job == "refresh" else None
            if published and published.versions == versions(pin_streams(config)):
                say("The tables hold everything that is archived; they were not built again.")
                continue
            say(f"Running the job `{job}` …")
            with contextlib.redirect_stdout(StepCounter()):
                result = repository.get_job(job).execute_in_process(
                    instance=instance, raise_on_error=False, run_config=QUIET_RUN
                )
            for evaluation in result.get_asset_check_evaluations():
                checks[f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"] = evaluation.passed
            if not result.success:
                for event in result.all_events:
                    if event.is_step_failure:
                        say(f"The job `{job}` failed: {reason(event.step_failure_data)}")
                return None
    statuses = {name: stream_status(config, name) for name in config.streams}
    return {
        "statuses": statuses,
        "new": sum(status.events for status in statuses.values()) - sum(before.values()),
        "checks": checks,
        "build": current_build_id(config.warehouse),
        "warehouse": config.warehouse / "current.duckdb",
    }


def summarize(outcome: dict[str, Any], *, job_seconds: float, seconds: float) -> None:
    """What was done, what it amounts to, and where to look."""
    import duckdb

    with duckdb.connect(str(outcome["warehouse"]), read_only=True) as connection:
        marts = connection.execute("select mart, rows from build_marts order by mart").fetchall()
    wanted = {
        name: stream["lines"]
        for name, stream in json.loads((TRUTH / "summary.json").read_text())["streams"].items()
    }
    passed = sum(outcome["checks"].values())
    say("")
    say(
        f"Archive     {sum(status.events for status in outcome['statuses'].values()):,} events, {outcome['new']:,} of them new"
    )
    for name, status in outcome["statuses"].items():
        complete = (
            "all lines that the service wrote"
            if status.events == wanted[name]
            else f"the service wrote {wanted[name]:,}!"
        )
        say(f"              {name}: {status.events:,} in {status.commits} commits, {complete}")
    say(f"Tables      {len(marts)} built and published as {outcome['build']}")
    say("              " + ", ".join(f"{name} {rows:,}" for name, rows in marts))
    say(
        f"Checks      {passed} of {len(outcome['checks'])} passed, among them: every byte of the archive is what its log says"
    )
    say(f"Time        {job_seconds:.0f} s in the jobs, {seconds:.0f} s in all")
    say("")
    say("Where to look (or put .venv/bin on your PATH):")
    command = ".venv/bin/event-archive"
    say(f'  {command} sql "select * from seat_availability order by available_seats limit 5"')
    say(
        f"  {command} sql \"select payload->>'event_type' as type, count(*) from archive.bookings group by 1 order by 2 desc\""
    )
    say(f"  {command} status")
    say("  make ui      lineage, runs and checks in the browser")


if __name__ == "__main__":
    sys.exit(main())
