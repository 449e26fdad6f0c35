"""States: what a log adds up to at a version, so that opening a table needn't read ten years of entries.

A state is the zstd of a JSON document. It counts only together with a later commit of the operation SEAL that names it and its SHA-256, and
it is never the only place where something is known: without it the whole log gives the same.

What doesn't live here: when states are made (`event_archive.sealing`), and what comes after them (`snapshot`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from event_archive import layout
from event_archive.archive.checkpoint import Tombstone
from event_archive.archive.log import Commit, DataFile, SegmentFact
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from event_archive.storage.store import Store

FORMAT = 1
_LARGEST_BYTES = 2**31
_FILE = ("path", "size_bytes", "sha256", "num_records", "commit_version")
_REMOVED = ("path", "size_bytes", "removed_at_ms")
_SEGMENT = ("first", "last", "name", "sha256")


@dataclass(frozen=True, slots=True)
class Abridged:
    """Claims that stand for those of many commits: whoever takes them in, in order, knows positions and gaps as after all."""

    version: int
    ingested_at_us: int
    events: int
    claims: dict[str, list[Any]]

    def as_commit(self) -> Commit:
        """As something that folds over commits can take in."""
        return Commit(
            version=self.version,
            entry_sha256="",
            operation="STATE",
            ingested_at_us=self.ingested_at_us,
            events=self.events,
            value_bytes=0,
            added=(),
            removed=(),
            claims=self.claims,
        )


@dataclass(frozen=True, slots=True)
class State:
    """What the log up to `version` adds up to."""

    version: int
    entry_sha256: str
    """Of the entry of that version."""
    events: int
    value_bytes: int
    ingested_at_us: int
    files: tuple[DataFile, ...]
    removed: tuple[Tombstone, ...]
    """Not for ever: those of the last weeks, for Delta's readers."""
    abridged: tuple[Abridged, ...]
    segments: tuple[SegmentFact, ...]
    """All of them, from version 0 on."""
    transactions: dict[str, int]
    protocol: dict[str, Any]
    metadata: dict[str, Any]


def encode_state(state: State) -> bytes:
    """The bytes of a state; the same state gives the same bytes."""
    document = {
        "format": FORMAT,
        "version": state.version,
        "entrySha256": state.entry_sha256,
        "events": state.events,
        "valueBytes": state.value_bytes,
        "ingestedAtUs": state.ingested_at_us,
        "files": {
            **_columns(state.files, _FILE),
            "stats": [json.dumps(file.stats, separators=(",", ":")) for file in state.files],
        },
        "removed": _columns(state.removed, _REMOVED),
        "abridged": [asdict(item) for item in state.abridged],
        "segments": _columns(state.segments, _SEGMENT),
        "transactions": state.transactions,
        "protocol": state.protocol,
        "metaData": state.metadata,
    }
    plain = json.dumps(document, separators=(",", ":")).encode()
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(plain)


def _columns(items: Sequence[object], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [getattr(item, name) for item in items] for name in names}


def decode_state(content: bytes) -> State:
    """The inverse of `encode_state`.

    Raises:
        ArchiveDamaged: these bytes are no state.
    """
    try:
        plain = zstandard.ZstdDecompressor().decompress(content, max_output_size=_LARGEST_BYTES)
        document = json.loads(plain)
        if document["format"] != FORMAT:
            raise ArchiveDamaged(
                f"it is of format {document['format']}, which this version of event-archive can't read."
            )
        files = document["files"]
        return State(
            version=document["version"],
            entry_sha256=document["entrySha256"],
            events=document["events"],
            value_bytes=document["valueBytes"],
            ingested_at_us=document["ingestedAtUs"],
            files=tuple(
                DataFile(path, size, sha256, records, version, json.loads(stats))
                for path, size, sha256, records, version, stats in zip(
                    *(files[name] for name in _FILE), files["stats"], strict=True
                )
            ),
            removed=tuple(map(Tombstone, *(document["removed"][name] for name in _REMOVED))),
            abridged=tuple(Abridged(**item) for item in document["abridged"]),
            segments=tuple(map(SegmentFact, *(document["segments"][name] for name in _SEGMENT))),
            transactions=document["transactions"],
            protocol=document["protocol"],
            metadata=document["metaData"],
        )
    except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"it does not parse ({type(error).__name__}: {error}).") from error


def state_names(table: Store) -> list[tuple[int, str]]:
    """Versions and names of the states that a table has, the newest first."""
    found = (
        (version, f"{layout.OWN_FOLDER}/{name}")
        for name in table.names(layout.OWN_FOLDER)
        if (version := layout.state_version(name)) is not None
    )
    return sorted(found, reverse=True)


def readable_states(table: Store, *, until: int | None) -> Iterator[tuple[str, str, State]]:
    """Name, SHA-256 and content of the states up to a version, the newest first; those that don't parse are left out."""
    for version, name in state_names(table):
        if until is None or version <= until:
            try:
                content = table.read(name)
                yield name, hashlib.sha256(content).hexdigest(), decode_state(content)
            except (ArchiveDamaged, FileMissing):
                continue  # `verify` names it; the log itself knows everything


def is_confirmed(name: str, sha256: str, commits: Iterable[Commit]) -> bool:
    """Whether one of these commits names a state with these bytes."""
    return any(
        commit.sealed is not None and (commit.sealed.state, commit.sealed.state_sha256) == (name, sha256)
        for commit in commits
    )
