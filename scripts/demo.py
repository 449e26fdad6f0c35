"""`make demo`: the two services' events into an archive, tables from them, proof that nothing is missing, and where to look.

Safe to repeat: events that are there are not made again, what is archived is not read again. Files and Kafka (`make demo SOURCE=kafka`)
are demos of their own, in folders of their own. What doesn't live here: any of the steps; they are the commands and jobs that a user has too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.console import EXIT_INTERRUPTED, run_jobs, use_home
from scripts import demo_kafka
from scripts.demo_kafka import NoKafka, say, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.config import Config

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"


@dataclass(frozen=True)
class Demo:
    """Where one demo's events come from and where everything of it is.

    Attributes:
        config: The configuration file.
        truth: Folder of what really happened.
        home: Dagster's folder, if it isn't DAGSTER_HOME.
        events_are: Where the services put their events, for people.
        destination: The same as arguments of `demo.generate`.
        first: What to type before looking around.
        last: What else there is to type, and what it does.
    """

    config: Path
    truth: Path
    events_are: str
    destination: tuple[str, ...]
    home: Path | None = None
    first: str = ""
    last: tuple[str, ...] = ("  make ui      lineage, runs and checks in the browser",)


def main() -> int:
    """Runs all steps; 1 if one of them found a problem."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="true events of both streams together")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--source", choices=("files", "kafka"), default="files", help="how the events get to the archive"
    )
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", help="a Kafka to use; the demo starts its own without"
    )
    parser.add_argument(
        "--folder", type=Path, default=demo_kafka.FOLDER, help="of everything, with --source kafka"
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    os.chdir(ROOT)
    place = (
        kafka_demo(arguments.folder.absolute(), arguments.kafka)
        if arguments.source == "kafka"
        else files_demo()
    )
    try:
        with place as demo:
            if (status := simulate(demo, arguments.events, arguments.seed)) != 0:
                return status
            return archive_and_build(demo, started)
    except NoKafka as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        say("Interrupted. Run it again: it goes on from here.")
        return EXIT_INTERRUPTED


@contextlib.contextmanager
def files_demo() -> Iterator[Demo]:
    """The demo whose services write files."""
    landing = DATA / "landing"
    yield Demo(
        config=ROOT / "event_archive.yaml",
        truth=DATA / "truth",
        events_are=f"in {shown(landing)}",
        destination=("--landing", str(landing)),
    )


@contextlib.contextmanager
def kafka_demo(folder: Path, given: str | None) -> Iterator[Demo]:
    """The demo whose services write to topics; its broker runs as long as the context lasts."""
    config = demo_kafka.config_file(folder)
    with demo_kafka.demo_kafka(folder, given) as brokers:
        yield Demo(
            config=config,
            truth=folder / "truth",
            events_are=f"in the topics of {brokers}",
            destination=("--brokers", brokers),
            home=folder / "dagster",
            first=f"  export EVENT_ARCHIVE_CONFIG={shown(config)}",
            last=(
                "  make ui SOURCE=kafka   lineage, runs and checks in the browser",
                *(
                    []
                    if given
                    else ["  make kafka             its Kafka again, until Ctrl-C; this one ends now"]
                ),
            ),
        )


def simulate(demo: Demo, events: int, seed: int) -> int:
    """Lets the demo's customers book and shop, unless they have; the generator's exit code."""
    if (demo.truth / "summary.json").exists():
        made = json.loads((demo.truth / "summary.json").read_text())["arguments"]
        say(
            f"The services' events are {demo.events_are} already (--events {made['events']} --seed {made['seed']})."
        )
        if (made["events"], made["seed"]) != (events, seed):
            say(
                "`make clean-demo` removes them and what was archived, for a demo with another number or seed."
            )
        return 0
    say(f"Simulating the customers of two services, {events:,} events …")
    command = [sys.executable, "-m", "demo.generate", "--events", str(events), "--seed", str(seed)]
    done = subprocess.run(
        [*command, *demo.destination, "--truth", str(demo.truth)],
        cwd=ROOT,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        say(done.stderr.strip().splitlines()[-1])
    return done.returncode


def archive_and_build(demo: Demo, started: float) -> int:
    """Runs the jobs `ingest`, `refresh` and `verify_archive`, and says what came of them; the exit code."""
    from event_archive.config import load_config
    from event_archive.status import stream_status

    config = load_config(demo.config)
    if demo.home:
        os.environ["DAGSTER_HOME"] = str(demo.home)
    use_home(ROOT)
    before = sum(stream_status(config, name).events for name in config.streams)
    job_started = time.monotonic()
    say("Starting Dagster …")
    outcome = run_jobs(config, ["ingest", "refresh", "verify_archive"])
    if outcome.endings.get("refresh") == "nothing new":
        say("The tables hold everything that is archived; they were not built again.")
    if outcome.failure:
        say(outcome.failure)
        return EXIT_INTERRUPTED if outcome.is_interrupted else 1
    seconds = time.monotonic()
    summarize(
        demo, config, outcome.checks, before, job_seconds=seconds - job_started, seconds=seconds - started
    )
    return 0


def summarize(
    demo: Demo,
    config: Config,
    checks: dict[str, bool],
    events_before: int,
    *,
    job_seconds: float,
    seconds: float,
) -> None:
    """What was done, what it amounts to, and where to look."""
    from event_archive.status import stream_status
    from event_archive.warehouse import layout, read_published

    summary = json.loads((demo.truth / "summary.json").read_text())
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
        file = layout.build_file(config.warehouse, published.build_id)
        say(f"Tables      {len(published.marts)} in {shown(file)}")
        for mart in published.marts:
            say(f"              {mart.mart}: {mart.rows:,} rows")
    say(
        f"Checks      {sum(checks.values())} of {len(checks)} run now passed; every byte of the archive is what its log says"
    )
    say(f"Time        {job_seconds:.0f} s in the jobs, {seconds:.0f} s in all")
    say("")
    say("Where to look (or put .venv/bin on your PATH):")
    if demo.first:
        say(demo.first)
    command = ".venv/bin/event-archive"
    say(f'  {command} sql "select * from seat_availability order by available_seats, flight_id limit 5"')
    say(
        f"  {command} sql \"select payload->>'event_type' as type, count(*) from archive.bookings group by 1 order by 2 desc\""
    )
    say(f"  {command} status")
    for line in demo.last:
        say(line)


if __name__ == "__main__":
    sys.exit(main())
