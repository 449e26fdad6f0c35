"""The demo's Kafka: a broker of its own or a given one, and the configuration that leads to it.

`python -m scripts.demo_kafka` runs the demo's own broker until Ctrl-C, to look into its topics. What doesn't live here: how Kafka
is got and started (`demo/kafka`), and what the demo does with it (`demo`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from demo.generate import Topics
from demo.kafka.broker import start_kafka
from demo.kafka.installation import installed
from demo.kafka.jars import KafkaUnavailable, version_folder
from demo.kafka.node import KafkaDidNotStart
from demo.topic import NotDelivered, cluster_id

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent.parent / "data" / "kafka"

CONFIG = """\
# Written by `make demo SOURCE=kafka`. The address is the one that the broker has had last.
archive: archive
warehouse: warehouse
streams:
  bookings:
    description: What the flight booking service decided
    source: {{type: kafka, brokers: "{brokers}", topic: {bookings}}}
  cart_events:
    description: What happened to the carts of the shop
    source: {{type: kafka, brokers: "{brokers}", topic: {cart_events}}}
"""


class NoKafka(Exception):
    """There is no Kafka for the demo; the message says what to do."""


def config_file(folder: Path) -> Path:
    """The configuration of the demo in this folder."""
    return folder / "event_archive.yaml"


@contextlib.contextmanager
def demo_kafka(folder: Path, given: str | None = None) -> Iterator[str]:
    """Gives the address of a Kafka that is there for as long as the context lasts, and writes the configuration for it.

    Args:
        folder: Everything of the demo is in it; its own broker too.
        given: Address of a Kafka to be used instead of an own one.

    Raises:
        NoKafka: It isn't there and can't be started, or the folder's demo went through another one.
    """
    with given_kafka(given) if given else own_kafka(folder / "broker", config_file(folder)) as brokers:
        _claim(folder, brokers)
        topics = Topics(brokers)
        names = {stream: topics.topic(stream) for stream in ("bookings", "cart_events")}
        # Beside it and renamed: whoever reads it reads all of it.
        new = folder / f".event_archive.{os.getpid()}.yaml"
        new.write_text(CONFIG.format(brokers=brokers, **names), encoding="utf-8")
        new.replace(config_file(folder))
        yield brokers


@contextlib.contextmanager
def given_kafka(brokers: str) -> Iterator[str]:
    """A Kafka that somebody else runs."""
    try:
        cluster_id(brokers)
    except NotDelivered as problem:
        raise NoKafka(f"{problem} KAFKA=host:port says where it is.") from None
    yield brokers


@contextlib.contextmanager
def own_kafka(folder: Path, config: Path) -> Iterator[str]:
    """The demo's own broker, started unless it's running already (`make kafka`)."""
    if running := _running(folder, config):
        yield running
        return
    try:
        if not version_folder().exists():
            say("Fetching Kafka by Maven, this once …")
        installed()
        say(f"Starting Kafka on loopback, its data in {shown(folder)} …")
        with start_kafka(folder) as kafka:
            yield kafka.bootstrap
    except KafkaUnavailable as reason:
        raise NoKafka(
            f"There is no Kafka here: {reason}. With Docker there is another way:\n"
            "  docker compose up --detach --wait && make demo SOURCE=kafka KAFKA=localhost:9092"
        ) from None
    except KafkaDidNotStart as reason:
        raise NoKafka(f"Kafka didn't start: {reason}") from None


def _running(folder: Path, config: Path) -> str | None:
    """Address of the folder's broker if another process runs it."""
    if not (folder / "cluster-id").exists() or not config.exists():
        return None
    brokers = re.search(r'brokers: "(.+?)"', config.read_text(encoding="utf-8"))
    if not brokers:
        return None
    host, _, port = brokers[1].rpartition(":")
    with (
        contextlib.suppress(OSError, ValueError, NotDelivered),
        socket.create_connection((host, int(port)), 2),
    ):
        if cluster_id(brokers[1]) == (folder / "cluster-id").read_text():
            return brokers[1]
    return None


def _claim(folder: Path, brokers: str) -> None:
    """Makes sure that all of the folder's demo is about one cluster: positions in another mean nothing."""
    mark, found = folder / "cluster", cluster_id(brokers)
    if mark.exists() and mark.read_text() != found:
        raise NoKafka(
            f"{shown(folder)} holds a demo that went through another Kafka. Remove that folder for one through {brokers}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(found)


def shown(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def say(text: str) -> None:
    """A line that is seen at once, also through a pipe."""
    print(text, flush=True)


def main() -> int:
    """Runs the demo's own broker in the foreground until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    try:
        with demo_kafka(FOLDER) as brokers:
            say(f"The demo's Kafka runs at {brokers} until Ctrl-C; {shown(config_file(FOLDER))} leads to it.")
            ended.wait()
    except NoKafka as problem:
        say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
