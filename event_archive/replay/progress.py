"""How far a replay has come: records in a topic of the target's own cluster, written in the transactions of the events.

A transaction brings events and the position behind them, or nothing. Whoever goes on reads the newest position, so no
event is left out or written twice, whenever the one before was interrupted. The topic is compacted: positions don't
expire, as those of consumer groups do. What doesn't live here: the transactions (`topic`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive.errors import ArchiveDamaged, UsageError
from event_archive.replay.committed import read_committed
from event_archive.replay.events import BEGINNING, Position
from event_archive.replay.target import TargetTopic, name_of

if TYPE_CHECKING:
    from event_archive.replay.events import ArchivedEvents
    from event_archive.source_config import KafkaSource

TOPIC = "event-archive-replays"
_SETTINGS = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": str(16 * 2**20),  # small, so that it is compacted soon
}
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Run:
    """What is replayed where: runs that differ in any of this know nothing of each other's progress."""

    table_id: str
    topic_id: str
    bounds: str
    mapping: str
    zero_timestamp_ms: int | None
    sources: tuple[str, ...]
    """The topics (source ids) that are replayed; empty for files."""

    @property
    def key(self) -> bytes:
        """Key of its records: begins with what all replays of a table to a topic share."""
        text = json.dumps([self.bounds, self.mapping, self.zero_timestamp_ms, *self.sources])
        return f"{self.shared_key}{hashlib.sha256(text.encode()).hexdigest()}".encode()

    @property
    def shared_key(self) -> str:
        """What the keys of all runs from this table to this topic begin with."""
        return f"{self.table_id}/{self.topic_id}/"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has written so far."""

    position: Position
    events: int
    """Events written by the run."""


class ProgressTopic:
    """Reads and encodes the progress of replays to one cluster."""

    def __init__(self, target: KafkaSource) -> None:
        self.source = target.model_copy(update={"topic": TOPIC})
        self._topic = TargetTopic(self.source)

    def prepare(self) -> None:
        """Makes the topic if it isn't there.

        Raises:
            UsageError: it is there and would forget progress.
            SourceUnavailable: it can't be made.
        """
        self._topic.make(1, _SETTINGS)
        self._topic.require()
        policy = self._topic.settings().get("cleanup.policy", "compact")
        if policy != "compact":
            raise UsageError(
                f"{name_of(self.source)}: the progress of replays is kept in this topic, but its cleanup.policy {policy} would delete "
                "it in time. Set it to compact."
            )

    def read(self, run: Run, archived: ArchivedEvents) -> tuple[Progress | None, list[str]]:
        """The run's progress, None if it has written nothing yet, and the bounds of other runs of the table to the topic.

        Call it after the transactions of earlier processes have ended.

        Raises:
            UsageError: the progress is of another archive than the one that is here.
        """
        newest: dict[bytes, Any] = {}
        for messages in read_committed(self._topic):
            for message in messages:
                key, value = message.key(), message.value()
                if key and value and key.startswith(run.shared_key.encode()):
                    newest[key] = json.loads(value)
        others = [record["run"]["bounds"] for key, record in newest.items() if key != run.key]
        record = newest.get(run.key)
        if record is None:
            return None, others
        commit, rows, entry = (record[name] for name in ("commit", "rows", "entry_sha256"))
        if commit > archived.end.commit or archived.commits[commit].entry_sha256 != entry:
            raise ArchiveDamaged(
                f"{name_of(self.source)} says that commit {commit} of this stream was replayed, which the archive hasn't, or has "
                "another one: it was restored from an older copy. Nothing was written."
            )
        return Progress(Position(commit, rows), record["events"]), others

    @staticmethod
    def encode(run: Run, stream: str, topic: str, progress: Progress, archived: ArchivedEvents) -> bytes:
        """Value of a record; beside what is read back it says for people which replay it is about."""
        record = {
            "format": _FORMAT,
            "commit": progress.position.commit,
            "rows": progress.position.rows,
            "entry_sha256": archived.commits[progress.position.commit].entry_sha256,
            "events": progress.events,
            "run": {
                "stream": stream,
                "topic": topic,
                "bounds": run.bounds,
                "mapping": run.mapping,
                "sources": run.sources,
            },
        }
        return json.dumps(record).encode()


NOTHING_YET = Progress(BEGINNING, 0)
