"""The world of one row: a topic, a configured project that archives it, and an independent consumer that watches.

What doesn't live here: what is done to it (`rows`).
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campaign.archive_record import ArchiveRecord, compare, read_archive
from campaign.live_topic import LiveTopic
from campaign.truth import Record, TruthFailed, Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from campaign.faults import Fault
    from campaign.ingesters import Command, Forks
    from campaign.producing import Producers
    from campaign.report import RowReport
    from campaign.settings import Settings
    from demo.kafka.broker import Kafka

STREAM = "events"
PARTITIONS = 4
_ADMIN_SECONDS = 60


@dataclass(slots=True)
class Campaign:
    """What all rows share."""

    folder: Path
    forks: Forks
    kafka: Kafka | None
    """A broker that no row may disturb; None if no row needs one."""
    start_kafka: Callable[..., Kafka]
    """Starts a cluster that a row may do anything to; takes the arguments of `demo.kafka.broker.start_kafka`, but no folder."""
    settings: Settings
    _worlds: int = 0

    def random(self, row: RowReport) -> random.Random:
        """The chance of one row."""
        return random.Random(f"{self.settings.seed}/{row.number}")

    def world(
        self,
        row: RowReport,
        *,
        kafka: Kafka | None = None,
        topic_config: Mapping[str, object] | None = None,
        partitions: int = PARTITIONS,
        replicas: list[list[int]] | None = None,
        **settings: Any,
    ) -> World:
        """A new topic and a project that archives it.

        Args:
            row: whose world it is.
            kafka: the cluster, by default the one that rows share.
            topic_config: beyond what the records need.
            partitions: how many.
            replicas: node ids per partition, instead of a number of partitions.
            settings: as in `World.configure`.
        """
        self._worlds += 1
        name = f"campaign-row-{row.number}-{self._worlds}-{time.time_ns():x}"
        folder = self.folder / f"row-{row.number}-{self._worlds}"
        folder.mkdir(parents=True)
        broker = kafka or self.kafka
        if broker is None:
            raise RuntimeError("a row that makes worlds must say that it needs a broker")
        world = World(
            row=row,
            settings=self.settings,
            kafka=broker,
            topic=name,
            partitions=len(replicas) if replicas else partitions,
            witness=Witness(broker.bootstrap, name),
            admin=broker.admin(),
            writings=0,
            folder=folder,
            forks=self.forks,
        )
        world.create_topic(topic_config, replicas)
        world.configure(**settings)
        return world


@dataclass(slots=True)
class World(LiveTopic):
    """One topic and the project that archives it."""

    folder: Path
    forks: Forks

    @property
    def table(self) -> Path:
        """Folder of the archive's table."""
        return self.folder / "archive" / STREAM

    def configure(
        self, *, commit_bytes: int = 30_000, timeout_seconds: float = 60, start_at: str = "earliest"
    ) -> None:
        """Writes the configuration. With small commits there are many of them to be disturbed."""
        source = {
            "type": "kafka",
            "brokers": self.kafka.bootstrap,
            "topic": self.topic,
            "start_at": start_at,
            "timeout_seconds": timeout_seconds,
            "properties": {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500},
        }
        stream = {"source": source, "commit_bytes": commit_bytes}
        document = {"archive": "archive", "warehouse": "warehouse", "streams": {STREAM: stream}}
        (self.folder / "event_archive.yaml").write_text(json.dumps(document))  # JSON is YAML

    def start(self, *arguments: str, faults: Sequence[Fault] = ()) -> Command:
        """Starts a command of `event-archive`."""
        return self.forks.run(arguments, folder=self.folder, faults=faults)

    def start_ingest(self, faults: Sequence[Fault] = ()) -> Command:
        """Starts an ingest of what is there now."""
        return self.start("ingest", faults=faults)

    def start_following(self, faults: Sequence[Fault] = ()) -> Command:
        """Starts an ingest that goes on until it is ended."""
        return self.start("ingest", "--follow", "--max-latency", "1", faults=faults)

    def ingest(self) -> Command:
        """Ingests what is there now.

        Raises:
            TruthFailed: it fails.
        """
        command = self.start_ingest()
        if command.wait() != 0:
            raise TruthFailed(f"an undisturbed ingest failed with {command.code}: {command.said()}")
        return command

    def refused(self, *, saying: str, faults: Sequence[Fault] = ()) -> Command:
        """Ingests what is there now, which must fail with one clear sentence.

        Raises:
            TruthFailed: it doesn't fail, or says something else.
        """
        command = self.start_ingest(faults)
        if command.wait() != 1 or saying not in command.said() or "Traceback" in command.said():
            raise TruthFailed(
                f"expected an ingest to fail with {saying!r}; it ended with {command.code}: {command.said()}"
            )
        return command

    def status(self) -> dict[str, Any]:
        """What `event-archive status` says of the stream."""
        command = self.start("status", "--json")
        command.wait()
        (stream,) = command.answer()["streams"]
        return dict(stream)

    def positions(self) -> dict[int, int]:
        """The archive's positions by partition, by the word of `event-archive status`."""
        return {int(name.rpartition("/")[2]): offset for name, offset in self.status()["positions"].items()}

    def accept(self, *arguments: str) -> Command:
        """The operator's decision to go on with the topic as it is."""
        command = self.start("sources", "accept", STREAM, *arguments)
        command.wait()
        return command

    def entries(self) -> int:
        """Number of entries in the log."""
        return len(list((self.table / "_delta_log").glob("[0-9]*.json")))

    def written(self) -> set[str]:
        """Names of data files and of log entries that are being written, whether they are part of the table or not."""
        found = [*self.table.glob("*/*.parquet"), *(self.table / "_delta_log").glob("_commit_*.tmp")]
        return {path.name for path in found}

    def wait_for_commit(self, known: set[str], by: Command) -> bool:
        """Waits until a command is in the middle of a commit, or has ended; whether it's the former.

        Args:
            known: what was `written` before.
            by: the command.
        """
        while not self.written() - known:
            if not by.is_running():
                return False
        return True

    def archive(self) -> ArchiveRecord:
        """What the archive holds."""
        return read_archive(self.table)

    def wait_for_entries(self, more: int, *, than: int | None = None, by: Command | None = None) -> None:
        """Waits until the log has so many entries more than it has now, or than it had; see `wait_until`."""
        wanted = (self.entries() if than is None else than) + more
        self.wait_until(lambda: self.entries() >= wanted, f"{wanted} log entries", by=by)

    def finish(self, producers: Iterable[Producers] = ()) -> None:
        """What ends every row: a last ingest takes the rest, and archive and topic are compared."""
        self.wait_for_transactions()
        self.ingest()
        self.check()
        for each in producers:
            self.row.acknowledged += each.check(self.witness)

    def check(self, expected: Mapping[str, Mapping[int, Record]] | None = None) -> None:
        """Holds the archive against the independent record, verifies it, and reads it with `deltalake`.

        Args:
            expected: what should be there by source id and partition; by default all that the witness has seen.

        Raises:
            TruthFailed: they differ, or the archive isn't whole.
        """
        if expected is None:
            self.witness.catch_up()
            expected = {self.source_id(): self.witness.partitions}
        self.row.note(compare(expected, self.archive()))
        self.check_whole()

    def check_so_far(self) -> list[str]:
        """The archive may not have come to the end yet, but holds nothing that is not right, and proves whole.

        Returns:
            Files that no entry refers to.

        Raises:
            TruthFailed: something is doubled, changed or strange, or the archive isn't whole.
        """
        self.witness.catch_up()
        archive = self.archive()
        difference = compare({self.source_id(): self.witness.partitions}, archive)
        if difference.doubled or difference.changed or difference.strange:
            raise TruthFailed(f"the archive holds what it should not: {difference}")
        for partitions in archive.sources.values():
            for partition, record in partitions.items():
                wanted = sorted(self.witness.partitions[partition])[: len(record)]
                if sorted(record) != wanted:
                    raise TruthFailed(f"partition {partition} has a hole in the archive")
        return self.check_whole()

    def check_whole(self) -> list[str]:
        """Has `verify` prove the archive whole; returns files that no entry refers to.

        Raises:
            TruthFailed: it finds damage, or counts otherwise than the independent reader.
        """
        archive = self.archive()
        verified = self.start("verify", "--json")
        if verified.wait() != 0 or not verified.answer()["is_whole"]:
            raise TruthFailed(f"verify finds damage: {verified.output.read_text()} {verified.said()}")
        (report,) = verified.answer()["streams"]
        if (report["events"], report["commits"]) != (archive.rows, archive.versions):
            raise TruthFailed(f"verify counts {report['events']} events, the files hold {archive.rows}")
        return list(report["unreferenced"])
