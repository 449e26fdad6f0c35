"""One Kafka process with its folder and ports: start, stop, kill, freeze; what makes a cluster is in `broker.py`."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

from demo.kafka.owned_process import OwnedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STARTED = b"Kafka Server started"
LOG_TAIL_LINES = 40
POLL_SECONDS = 0.02

# Kafka prints all of its configuration at level info, several times: that part is left out.
_LOGGING = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n%throwable
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.config.name = org.apache.kafka.common.config
logger.config.level = warn
"""


class KafkaDidNotStart(Exception):
    """A node ended or kept silent when it was started; carries the last lines of its log."""


class Node:
    """A Kafka process that can be started again with the same data and the same ports.

    Attributes:
        id: Its id in the cluster, from 1.
        folder: Holds everything of this node.
        data_folder: Holds the topics, one folder per partition. Copy it while the node is stopped, put the copy back
            later, and the broker has lost what came between, while topics and their ids stay as they are.
        metadata_folder: Holds what the cluster knows: topics, configurations, credentials.
        log_file: What the process printed, over all its starts.
        is_frozen: Whether `freeze` was called and `thaw` was not.
    """

    def __init__(self, node_id: int, folder: Path, java_command: Sequence[str]) -> None:
        self.id = node_id
        self.folder = folder
        self.data_folder = folder / "data"
        self.metadata_folder = folder / "metadata"
        self.log_file = folder / "kafka.log"
        self.is_frozen = False
        self._properties_file = folder / "server.properties"
        self._logging_file = folder / "log4j2.properties"
        self._java_command = java_command
        self._process: OwnedProcess | None = None
        self._log_position = 0

    def prepare(self, properties: Mapping[str, object], cluster_id: str, empty_metadata: Path) -> None:
        """Writes the configuration, and formats the folders if they are new.

        Formatting does what Kafka's own tool does, without starting a JVM for it: `meta.properties` in both folders,
        and the first snapshot of the metadata log (`empty_metadata`), which that tool wrote once for the cache.
        """
        own = {"node.id": self.id, "log.dirs": self.data_folder, "metadata.log.dir": self.metadata_folder}
        lines = [f"{name}={_escaped(str(value))}\n" for name, value in {**own, **properties}.items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties_file.touch(mode=0o600)  # may hold passwords
        self._properties_file.write_text("".join(lines))
        self._logging_file.write_text(_LOGGING)
        for folder in (self.data_folder, self.metadata_folder):
            if not (folder / "meta.properties").exists():
                folder.mkdir(exist_ok=True)
                (folder / "meta.properties").write_text(
                    f"version=1\ncluster.id={cluster_id}\nnode.id={self.id}\ndirectory.id={new_kafka_id()}\n"
                )
        metadata_log = self.metadata_folder / "__cluster_metadata-0"
        if not metadata_log.exists():
            metadata_log.mkdir()
            shutil.copy(empty_metadata, metadata_log)

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process and self._process.is_running() else None

    @property
    def is_running(self) -> bool:
        """Whether the process is there; frozen counts as running."""
        return self.pid is not None

    def start(self) -> None:
        """Starts the process and waits until it serves."""
        self.begin_start()
        self.finish_start()

    def begin_start(self) -> None:
        """Starts the process only. In a cluster, no node is ready before most have been started."""
        if self.is_running:
            raise RuntimeError(f"node {self.id} is running")
        self._release()
        self._log_position = self.log_file.stat().st_size if self.log_file.exists() else 0
        logging = f"-Dlog4j2.configurationFile={self._logging_file}"
        command = [*self._java_command, logging, "kafka.Kafka", str(self._properties_file)]
        self._process = OwnedProcess(command, self.log_file)

    def finish_start(self, timeout_seconds: float = 120) -> None:
        """Waits until the process that was started serves.

        Raises:
            KafkaDidNotStart: It ended, or took too long.
        """
        deadline = time.monotonic() + timeout_seconds
        while STARTED not in self._printed_since_start():
            if not self.is_running:
                raise KafkaDidNotStart(f"node {self.id} ended while starting; {self.log_tail()}")
            if time.monotonic() > deadline:
                raise KafkaDidNotStart(
                    f"node {self.id} isn't up after {timeout_seconds:.0f} s; {self.log_tail()}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self, grace_seconds: float = 60) -> bool:
        """Shuts down cleanly; kills it when that takes too long (a cluster that lost its majority can't end cleanly).

        Returns:
            Whether it ended without being killed.
        """
        self.thaw()
        return self._release(grace_seconds)

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        self._release()

    def freeze(self) -> None:
        """Stops all its threads where they are (SIGSTOP): it holds its ports and answers nothing."""
        self._running_process().freeze()
        self.is_frozen = True

    def thaw(self) -> None:
        """Lets a frozen node go on (SIGCONT)."""
        if self.is_frozen:
            self._running_process().send(signal.SIGCONT)
            self.is_frozen = False

    def ask_to_stop(self) -> None:
        """Asks for a clean shutdown and doesn't wait."""
        self.thaw()
        if self._process:
            self._process.send(signal.SIGTERM)

    def log_tail(self) -> str:
        """The last lines of the log, with a heading."""
        lines = self._printed_since_start().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"{self.log_file} ends with:", *lines])

    def _running_process(self) -> OwnedProcess:
        if not self._process or not self._process.is_running():
            raise RuntimeError(f"node {self.id} isn't running")
        return self._process

    def _release(self, grace_seconds: float = 0) -> bool:
        self.is_frozen = False
        process, self._process = self._process, None
        return process.end(grace_seconds=grace_seconds) if process else True

    def _printed_since_start(self) -> bytes:
        if not self.log_file.exists():
            return b""
        with self.log_file.open("rb") as file:
            file.seek(self._log_position)
            return file.read()


def new_kafka_id() -> str:
    """A random id as Kafka writes them: 16 bytes in base64url, the first character no dash."""
    while (text := base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _escaped(value: str) -> str:
    """A value as a Java properties file has it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
