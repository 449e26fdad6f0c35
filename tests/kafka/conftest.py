"""Real brokers for tests: one that the whole run shares, others that a test may kill, and topics."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from demo.kafka.broker import Kafka, start_kafka
from demo.kafka.installation import installed
from demo.kafka.jars import KafkaUnavailable, locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


class PrivateKafka(Protocol):
    """Starts a cluster of the test's own; takes the arguments of `start_kafka`, but no folder."""

    def __call__(self, **arguments: Any) -> Kafka:
        """Starts it."""
        ...


class CreateTopic(Protocol):
    """Creates a topic on the shared broker and returns its name, a fresh one unless given."""

    def __call__(
        self, partitions: int = 1, *, config: Mapping[str, object] | None = None, name: str | None = None
    ) -> str:
        """Creates it."""
        ...


@pytest.fixture(scope="session")
def kafka_is_here() -> None:
    """Skips where Kafka can't run; fails there in CI, where it must."""
    try:
        installed()
    except KafkaUnavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no Kafka in CI: {reason}")
        pytest.skip(f"no Kafka: {reason}")


@pytest.fixture(scope="session")
def kafka(kafka_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for the whole run, shared by all workers; it has no `nodes`, so no test can disturb the others."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-kafka"
    with _shared_broker(folder) as bootstrap:
        yield Kafka(nodes=(), bootstrap=bootstrap, plain_bootstrap=bootstrap, security_properties={})


@contextlib.contextmanager
def _shared_broker(folder: Path) -> Iterator[str]:
    """The address of a broker that runs for as long as any process is in this context.

    Each user holds a shared lock of one file, and the broker's own process ends when it gets that lock exclusively. The
    kernel frees the locks of processes that were killed, so no broker outlives its run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address_file = folder / "address"
    with (folder / "users.lock").open("a") as users:
        with locked(folder):  # one at a time finds out whether the broker must be started
            fcntl.flock(users, fcntl.LOCK_SH)  # waits for a broker that is just ending
            if not _answers(address_file):
                _start_detached(folder, users.name, address_file)
        yield address_file.read_text().strip()


def _start_detached(folder: Path, lock_file: str, address_file: Path) -> None:
    """Starts a broker in a process that no worker waits for: the worker that starts it may be the first to end."""
    home = folder / uuid.uuid4().hex[:8]  # one that was given up may be writing still
    home.mkdir()
    errors = home / "errors"
    address_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "demo.kafka.broker", "--folder", str(home), "--while-locked", lock_file]
    subprocess.run(
        [
            "/bin/sh",
            "-c",
            '"$@" >"$OUT" 2>"$ERR" </dev/null && rm -r "$FOLDER" || touch "$FOLDER/failed" &',
            "sh",
            *command,
        ],
        cwd=ROOT,
        env={**os.environ, "OUT": str(address_file), "ERR": str(errors), "FOLDER": str(home)},
        start_new_session=True,  # Ctrl-C is for the tests; the broker ends after them
        check=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while not _answers(address_file):
        if time.monotonic() > deadline or (home / "failed").exists():
            pytest.fail(
                f"the shared broker didn't start: {errors.read_text() if errors.exists() else command}"
            )
        time.sleep(0.02)


def _answers(address_file: Path) -> bool:
    address = address_file.read_text() if address_file.exists() else ""
    if not address.endswith("\n"):
        return False
    host, port = address.strip().split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=10):
        return True
    return False


@pytest.fixture
def create_topic(kafka: Kafka, request: pytest.FixtureRequest) -> CreateTopic:
    """Creates topics on the shared broker."""
    test = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name)[:150]

    def create(
        partitions: int = 1, *, config: Mapping[str, object] | None = None, name: str | None = None
    ) -> str:
        name = name or f"{test}-{uuid.uuid4().hex[:12]}"
        kafka.create_topic(name, partitions, config=config)
        return name

    return create


@pytest.fixture
def topic(create_topic: CreateTopic) -> str:
    """A new topic of one partition on the shared broker."""
    return create_topic()


@pytest.fixture
def private_kafka(kafka_is_here: None, tmp_path: Path) -> Iterator[PrivateKafka]:
    """Starts clusters that this test may kill, freeze, secure and configure; they end with the test."""
    with contextlib.ExitStack() as held:
        folders: list[Path] = []

        def start(**arguments: Any) -> Kafka:
            folder = arguments.pop("folder", tmp_path / f"kafka-{len(folders)}")
            folders.append(folder)
            kafka = held.enter_context(start_kafka(folder, **arguments))
            held.callback(kafka.kill)  # nobody needs its data: no time for a clean end
            return kafka

        yield start
    for folder in folders:
        for node in folder.glob("node-*"):
            shutil.rmtree(node / "data")  # logs are small and may be wanted, data isn't
