"""Checkpoints as bytes: the same for the same table, refused where they would say something else, with the protocol's checksum."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from event_archive.archive.checkpoint import Tombstone, last_checkpoint_bytes
from event_archive.errors import ArchiveDamaged
from tests.event_archive.folding import fold, ingest_some

if TYPE_CHECKING:
    from tests.conftest import Project

PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}


def test_the_same_table_gives_the_same_bytes(project: Project) -> None:
    """Whatever the order in which its parts come, so that a checkpoint can be proved by its hash."""
    state = fold(project.table, ingest_some(project))
    state.transactions["another"] = 1
    state.removed = {
        path: Tombstone(path, 1, 1) for path in ("ingest_date=2026-01-02/b", "ingest_date=2026-01-02/a")
    }
    backwards = replace(
        state,
        files=dict(reversed(state.files.items())),
        transactions=dict(reversed(state.transactions.items())),
        removed=dict(reversed(state.removed.items())),
        metadata={
            **state.metadata,
            "configuration": dict(reversed(state.metadata["configuration"].items())),
        },
    )
    assert state.content() == state.content() == backwards.content()
    state.transactions["event-archive:file:0"] += 1
    assert state.content() != backwards.content()


def test_the_same_table_gives_the_same_bytes_in_another_process() -> None:
    """No seed of hashes, clock or thread gets into them; and pandas, which takes a second to import, stays out."""
    script = (
        "import hashlib, sys\n"
        "from event_archive.archive.checkpoint import *\n"
        "from event_archive.archive.log import DataFile\n"
        "bounds = {'ingested_at': '2026-01-02T03:04:05.006Z'}\n"
        "files = [DataFile(f'ingest_date=2026-01-02/commit-{n}.parquet', n, '', n, n, {'maxValues': bounds}) for n in range(99)]\n"
        "metadata = {'id': 'i', 'name': 'n', 'description': 'd', 'format': {'provider': 'parquet', 'options': {}},\n"
        "    'schemaString': '{}', 'partitionColumns': ['ingest_date'], 'configuration': {'b': 'c', 'a': 'd'}, 'createdTime': 1}\n"
        "content = checkpoint_bytes(protocol={'minReaderVersion': 1, 'minWriterVersion': 2}, metadata=metadata,\n"
        "    transactions={str(n): n for n in range(99)}, files=files)\n"
        "print(hashlib.sha256(content).hexdigest(), 'pandas' in sys.modules)\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().split()[1] == "False"


def test_what_a_checkpoint_can_not_hold_is_refused(project: Project) -> None:
    """Better no checkpoint than one from which a reader learns something else than from the log."""
    state = fold(project.table, ingest_some(project))
    file = next(iter(state.files.values()))
    with pytest.raises(ValueError, match=r"protocol\.readerFeatures"):
        replace(state, protocol={**PROTOCOL, "readerFeatures": []}).content()
    with pytest.raises(ValueError, match=r"metaData\.createdTime"):
        replace(state, metadata={k: v for k, v in state.metadata.items() if k != "createdTime"}).content()
    with pytest.raises(ValueError, match="both active and removed"):
        replace(state, removed={file.path: Tombstone(file.path, 1, 1)}).content()
    with pytest.raises(ArchiveDamaged, match="in no partition"):
        replace(state, files={"x": replace(file, path="x.parquet")}).content()


def test_the_last_checkpoint_file_has_the_checksum_that_the_protocol_asks_for() -> None:
    """The protocol's canonical form, written here once more and tried on the protocol's own example."""
    example = (
        """{"k0":"'v 0'", "checksum": "adsaskfljadfkjadfkj", "k1":{"k2": 2, "k3": ["v3", [1, 2], """
        """{"k4": "v4", "k5": ["v5", "v6", "v7"]}]}}"""
    )
    assert delta_checksum(json.loads(example)) == "6a92d155a59bf2eecbd4b4ec7fd1f875"
    content = json.loads(
        last_checkpoint_bytes(version=7_000_000, actions=123, size_bytes=45_678, add_files=120)
    )
    assert content.pop("checksum") == delta_checksum(content)
    assert content == {"version": 7_000_000, "size": 123, "sizeInBytes": 45_678, "numOfAddFiles": 120}


def delta_checksum(document: dict[str, Any]) -> str:
    """MD5 of the canonical form of a JSON document without its `checksum`."""
    leaves = {k: v for k, v in document.items() if k != "checksum"}
    canonical = ",".join(
        f"{path}={value}" for path, value in sorted(_leaves(leaves), key=lambda leaf: leaf[0].encode())
    )
    return hashlib.md5(canonical.encode(), usedforsecurity=False).hexdigest()


def _leaves(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        named = [(f'"{quote(name, safe="-_.~")}"', inner) for name, inner in value.items()]
    elif isinstance(value, list):
        named = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return [("", f'"{quote(value, safe="-_.~")}"' if isinstance(value, str) else json.dumps(value))]
    return [
        (f"{name}+{path}" if path else name, leaf) for name, inner in named for path, leaf in _leaves(inner)
    ]
