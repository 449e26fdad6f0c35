"""Simulates customers of the two services: `python -m demo.generate --events 100000 --seed 7 --landing … --truth …`.

The composition only: who does what is in the modules that it puts together. The two streams are independent of each other and are made
in a process each; the same arguments give the same bytes, in files or (`--brokers …`) in topics.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import random
import shutil
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo import booking_customers, cart_customers
from demo.booking_customers import BookingCustomers
from demo.booking_service import BookingService
from demo.cart_customers import CartCustomers
from demo.delivery import Delivery, Waves
from demo.history import History
from demo.landing import LandingFolder
from demo.schedule import Schedule
from demo.topic import NotDelivered
from demo.topic_outlet import OtherHistory, TopicOutlet
from demo.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from demo.outlet import Outlet

FEWEST_EVENTS = 1_000
MOST_EVENTS = 50_000_000
WORK_SUFFIX = ".work"
MARK = ".history"  # in each folder, says whose it is
SECONDS_BETWEEN_PROGRESS = 2
TOPIC_PREFIX = "demo-"


class Misuse(Exception):
    """What is asked for can't be done; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of a cluster that take the streams instead of landing folders."""

    brokers: str
    prefix: str = TOPIC_PREFIX

    def topic(self, stream: str) -> str:
        """Name the topic of a stream."""
        return self.prefix + stream.replace("_", "-")


def generate(
    *,
    events: int,
    seed: int,
    landing: Path | Topics,
    truth: Path,
    waves: int = 1,
    wave: int | None = None,
) -> dict[str, Any]:
    """Write the two streams and the truth about them.

    Each wave is made by simulating the whole history and writing only the files of that wave, so the union of the waves is what one go
    would have written, and the truth is always that of the whole history. Topics get what they don't have yet of all waves up to that one.

    Args:
        events: True events of both streams together.
        seed: Decides everything else.
        landing: The folder that gets a folder of files for each stream, or the topics.
        truth: Gets the truth; a folder `<truth>.work` beside it holds the booking service's database meanwhile.
        waves: How many waves the history's days are cut into.
        wave: The wave whose files are written, from 1; None for all.

    Returns:
        The summary, which is also in `<truth>/summary.json`.

    Raises:
        Misuse: The numbers don't make sense, or the folders hold another history.
        OtherHistory: The topics do.
        NotDelivered: The brokers don't answer.
    """
    if not FEWEST_EVENTS <= events <= MOST_EVENTS:
        raise Misuse(f"--events is from {FEWEST_EVENTS:,} to {MOST_EVENTS:,}.")
    if waves < 1 or (wave is not None and not 1 <= wave <= waves):
        raise Misuse(f"--wave is from 1 to the number of --waves, which is {waves}.")
    arguments = {"events": events, "seed": seed, "waves": waves}
    _claim([truth] if isinstance(landing, Topics) else [landing, truth], arguments)
    jobs = {
        "bookings": functools.partial(
            _bookings, _Job("bookings", events // 2, seed, landing, truth, waves, wave)
        ),
        "cart_events": functools.partial(
            _cart_events, _Job("cart_events", events - events // 2, seed, landing, truth, waves, wave)
        ),
    }
    with ProcessPoolExecutor(len(jobs), multiprocessing.get_context("spawn"), end_with_parent) as processes:
        running = {stream: processes.submit(job) for stream, job in jobs.items()}
        streams = {stream: job.result() for stream, job in running.items()}
    summary = {"arguments": arguments, "true_events": events, "streams": streams}
    (truth / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def end_with_parent() -> None:
    """End this process when the one that started it has been killed: it may be run again, and two would write at once."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _claim(folders: Sequence[Path], arguments: dict[str, int]) -> None:
    """Make sure that the folders are for this history: a run that was stopped can be run again, but none is mixed with another."""
    text = json.dumps(arguments) + "\n"
    for folder in folders:
        mark = folder / MARK
        if mark.exists() and mark.read_text(encoding="utf-8") != text:
            raise Misuse(
                f"{folder} holds another history: {mark.read_text(encoding='utf-8').strip()}."
                " Choose other folders, or remove this one."
            )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Job:
    """What one stream's process is to do."""

    stream: str
    events: int
    seed: int
    landing: Path | Topics
    truth: Path
    waves: int
    wave: int | None

    @property
    def history(self) -> History:
        return History.of_events(self.events)

    def rng(self, purpose: str) -> random.Random:
        """Return randomness of its own for each purpose, so that a change in one leaves the others as they were."""
        return random.Random(f"{self.seed}/{self.stream}/{purpose}")

    def delivery(self, servers: Sequence[str]) -> Delivery:
        waves = Waves(self.history.first_day, self.history.days, self.waves)
        return Delivery(self._outlet(), servers, self.rng("delivery"), waves, self._is_wanted)

    def _outlet(self) -> Outlet:
        if isinstance(self.landing, Topics):
            return TopicOutlet(self.landing.brokers, self.landing.topic(self.stream))
        return LandingFolder(self.landing / self.stream)

    def _is_wanted(self, wave: int) -> bool:
        if self.wave is None:
            return True
        return wave <= self.wave if isinstance(self.landing, Topics) else wave == self.wave


def _bookings(job: _Job) -> dict[str, Any]:
    work = job.truth.with_name(job.truth.name + WORK_SUFFIX)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    delivery = job.delivery(booking_customers.SERVERS)
    new_event_id = event_ids(job.rng("ids"))
    with (
        BookingService(
            work / "booking_service.sqlite", is_durable=False, new_event_id=new_event_id
        ) as service,
        Truth(job.truth, "bookings", "flights", "undecodable_today") as truth,
    ):
        BookingCustomers(
            history=job.history,
            schedule=Schedule(),
            service=service,
            delivery=delivery,
            truth=truth,
            rng=job.rng("customers"),
        ).play(_progress(job))
    shutil.rmtree(work)
    return delivery.finish().summary()


def _cart_events(job: _Job) -> dict[str, Any]:
    delivery = job.delivery(cart_customers.SERVERS)
    with Truth(job.truth, "carts") as truth:
        CartCustomers(
            history=job.history,
            delivery=delivery,
            truth=truth,
            rng=job.rng("customers"),
            new_event_id=event_ids(job.rng("ids")),
        ).play(_progress(job))
    return delivery.finish().summary()


def event_ids(rng: random.Random) -> Callable[[], str]:
    """Return a source of random ids in the form of UUIDs."""

    def next_id() -> str:
        digits = f"{rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return next_id


def _progress(job: _Job) -> Callable[[int], None]:
    """Say on a terminal how far a long run is."""
    if not sys.stderr.isatty():
        return lambda _new: None
    done = 0
    said_at = time.monotonic()

    def say(new: int) -> None:
        nonlocal done, said_at
        done += new
        if time.monotonic() - said_at > SECONDS_BETWEEN_PROGRESS:
            said_at = time.monotonic()
            print(f"{job.stream}: {done:,} of {job.events:,} events", file=sys.stderr)

    return say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.generate", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="true events of both streams together")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same bytes")
    parser.add_argument("--landing", type=Path, default=Path("data/landing"), help="folder for the files")
    parser.add_argument("--brokers", help="host:port of a Kafka cluster, whose topics get it all instead")
    parser.add_argument("--topic-prefix", default=TOPIC_PREFIX, help="what the topics' names begin with")
    parser.add_argument("--truth", type=Path, default=Path("data/truth"))
    parser.add_argument("--waves", type=int, default=1, help="cut the history into so many batches")
    parser.add_argument("--wave", type=int, help="write this batch only, from 1; all without it")
    options = parser.parse_args(arguments)
    given = vars(options)
    brokers, prefix = given.pop("brokers"), given.pop("topic_prefix")
    if brokers:
        given["landing"] = Topics(brokers, prefix)
    started_at = time.monotonic()
    try:
        summary = generate(**given)
    except (Misuse, OtherHistory, NotDelivered, FileExistsError, ModuleNotFoundError) as problem:
        print(problem, file=sys.stderr)
        return 2
    seconds = time.monotonic() - started_at
    for stream, counts in summary["streams"].items():
        place = f"a topic of {brokers}" if brokers else f"{counts['files']:,} files"
        print(
            f"{stream}: {counts['true_events']:,} events in {counts['lines']:,} lines of {place}"
            f" ({counts['duplicate_lines']:,} duplicates, {counts['malformed_lines']:,} malformed)"
        )
    print(f"{options.events:,} events in {seconds:.1f} s; the truth about them is in {options.truth}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
