"""A log, folded here by reading its JSON; for what checkpoints of it are compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from event_archive.archive.checkpoint import Tombstone, checkpoint_bytes
from event_archive.archive.log import DataFile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project


@dataclass
class Folded:
    """What a log adds up to, found out here by reading its JSON."""

    protocol: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    files: dict[str, DataFile] = field(default_factory=dict)
    removed: dict[str, Tombstone] = field(default_factory=dict)

    def content(self) -> bytes:
        """The checkpoint of this state."""
        return checkpoint_bytes(
            protocol=self.protocol,
            metadata=self.metadata,
            transactions=self.transactions,
            files=list(self.files.values()),
            removed=list(self.removed.values()),
        )


def entries(table: Path) -> list[Path]:
    """The log entries of a table, in order."""
    return sorted((table / "_delta_log").glob("*.json"))


def fold(table: Path, version: int) -> Folded:
    """Reads the log entries up to `version`."""
    state = Folded()
    for at, entry in enumerate(entries(table)[: version + 1]):
        for line in entry.read_text().splitlines():
            action = json.loads(line)
            state.protocol = action.get("protocol", state.protocol)
            state.metadata = action.get("metaData", state.metadata)
            if txn := action.get("txn"):
                state.transactions[txn["appId"]] = txn["version"]
            if add := action.get("add"):
                stats = json.loads(add["stats"])
                file = DataFile(add["path"], add["size"], "", stats["numRecords"], at, stats)
                state.files[file.path] = file
            if gone := action.get("remove"):
                del state.files[gone["path"]]
                state.removed[gone["path"]] = Tombstone(gone["path"], gone["size"], gone["deletionTimestamp"])
    return state


def ingest_some(project: Project) -> int:
    """Several files of several sources in several commits; the newest version."""
    project.configure(stream="commit_bytes: 5000")
    for name in ("a.jsonl", "b b.jsonl", "ü.jsonl"):
        project.write(name, b"".join(b'{"file": "%s", "n": %d}\n' % (name.encode(), n) for n in range(900)))
    project.ingest()
    version = len(entries(project.table)) - 1
    assert version > 5
    return version
