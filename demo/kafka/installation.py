"""Kafka ready to be started: the jars, and what is made from them once: an empty metadata log, loaded classes."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demo.kafka import jars
from demo.kafka.configuration import cluster_properties, listener_properties, reserved_port
from demo.kafka.node import Node, new_kafka_id

if TYPE_CHECKING:
    from collections.abc import Sequence

EMPTY_METADATA = "00000000000000000000-0000000000.checkpoint"
CLASS_ARCHIVE = "classes.jsa"


@dataclass(frozen=True)
class Installation:
    """Kafka as it lies in the cache.

    Attributes:
        java: Path of the Java to run it with.
        folder: Holds the folder of jars and what was made from them.
    """

    java: str
    folder: Path

    @property
    def empty_metadata(self) -> Path:
        """The first snapshot of any new cluster's metadata log: versions of features, nothing of node or cluster."""
        return self.folder / EMPTY_METADATA

    @property
    def class_archive(self) -> Path:
        """Kafka's classes as the JVM holds them after loading (AppCDS): halves the time to start."""
        return self.folder / CLASS_ARCHIVE

    def java_command(self, options: Sequence[str]) -> list[str]:
        """The start of a command line that runs a class of Kafka."""
        # A JVM that finds the class archive made by another Java, or from other jars, goes on without it.
        sharing = (
            ["-Xshare:auto", f"-XX:SharedArchiveFile={self.class_archive}"]
            if self.class_archive.exists()
            else []
        )
        class_path = ":".join(str(path) for path in sorted((self.folder / "jars").iterdir()))
        return [self.java, *sharing, *options, "-cp", class_path]


@functools.cache
def installed() -> Installation:
    """Kafka in the cache; fetches and prepares it if it isn't there. Safe to call from many processes at once.

    Raises:
        KafkaUnavailable: This machine can't run Kafka, or can't fetch it.
    """
    installation = Installation(jars.java(), jars.jars_folder().parent)
    with jars.locked(installation.folder):
        if not installation.empty_metadata.exists():
            _make_empty_metadata(installation)
        if not installation.class_archive.exists():
            _make_class_archive(installation)
    return installation


def _make_empty_metadata(installation: Installation) -> None:
    """Has Kafka's own tool format a folder, and keeps what it wrote."""
    with tempfile.TemporaryDirectory(dir=installation.folder, prefix="formatting-") as name:
        folder = Path(name)
        properties = {
            **cluster_properties([1]),
            **listener_properties({"CONTROLLER": 1, "PLAIN": 2}, {}),
            "node.id": 1,
            "log.dirs": folder / "data",
        }
        file = folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        command = [
            *installation.java_command([]),
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            new_kafka_id(),
        ]
        run = subprocess.run(  # noqa: S603 - arguments of our own
            [*command, "--config", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if run.returncode:
            raise jars.KafkaUnavailable(f"Kafka could not format a folder:\n{run.stdout[-3000:].strip()}")
        (folder / "data" / "__cluster_metadata-0" / EMPTY_METADATA).rename(installation.empty_metadata)


def _make_class_archive(installation: Installation) -> None:
    """Starts Kafka once and has the JVM write the classes it loaded when it ends."""
    with (
        tempfile.TemporaryDirectory(dir=installation.folder, prefix="loading-") as name,
        contextlib.ExitStack() as held,
    ):
        ports = [held.enter_context(reserved_port()) for _ in range(2)]
        archive = Path(name) / CLASS_ARCHIVE
        node = Node(
            1, Path(name) / "node", installation.java_command([f"-XX:ArchiveClassesAtExit={archive}"])
        )
        held.callback(node.kill)
        listeners = listener_properties({"CONTROLLER": ports[0], "PLAIN": ports[1]}, {})
        node.prepare(
            {**cluster_properties(ports[:1]), **listeners}, new_kafka_id(), installation.empty_metadata
        )
        node.start()
        node.stop()
        if archive.exists():
            archive.rename(installation.class_archive)
