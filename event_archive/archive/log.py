"""The log of a table: what an entry holds, how entries are chained, and reading them back with proof.

The log is a Delta Lake log (one JSON entry per commit, after github.com/delta-io/delta, PROTOCOL.md). Besides Delta's
actions each entry carries, in its `commitInfo`, an `eventArchive` object with what Delta doesn't know: the SHA-256 of
the entry itself, of the entry before it, of each file, the positions of the sources, and the row digests.

What doesn't live here: making a commit (`commit`), where entries lie (`history`), what they add up to (`snapshot`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from event_archive.errors import ArchiveDamaged

FORMAT = 2
"""Of the entries that we write. Those of format 1 have no row digests and no nonce."""
_READABLE_FORMATS = (1, 2)
_HASH_PREFIX = b'{"commitInfo":{"eventArchive":{"entrySha256":"'
_BLANK_HASH = b"0" * 64
_HEX_64 = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file that a commit brought, as the log describes it."""

    path: str
    """Relative to the table, as written in the log."""
    size_bytes: int
    sha256: str
    num_records: int
    commit_version: int
    stats: dict[str, Any]
    """Delta's file statistics."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """That data files took the place of others which hold the same rows."""

    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, int], ...]
    """Each output's path, and the number of spans that it holds; see `contents`."""


@dataclass(frozen=True, slots=True)
class SegmentFact:
    """A segment, the entries that it holds, and its hash."""

    first: int
    last: int
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """That entries are kept in segments, and what the log up to the last of them adds up to."""

    segments: tuple[SegmentFact, ...]
    """Those that are new, from the version after the last one that was sealed before."""
    state: str
    state_sha256: str
    checkpoint: str
    checkpoint_sha256: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log."""

    version: int
    entry_sha256: str
    """SHA-256 of the whole entry as it lies on the disk."""
    operation: str
    ingested_at_us: int
    """Microseconds since 1970 UTC."""
    events: int
    value_bytes: int
    added: tuple[DataFile, ...]
    removed: tuple[str, ...]
    claims: dict[str, list[Any]]
    """Positions after the commit, one list item per source that it touched; empty if it touched none."""
    digests: tuple[str, ...] = ()
    """Row digests of the spans with events, in their order; empty in entries of format 1."""
    row_groups: tuple[int, ...] = ()
    """Rows of each row group of the file, so that it can be made again; empty in entries of format 1."""
    compacted: Compacted | None = None
    sealed: Sealed | None = None


def seal_entry(actions: list[dict[str, Any]], facts: dict[str, Any], commit_info: dict[str, Any]) -> bytes:
    """Bytes of a log entry, with its own hash in its first line.

    Args:
        actions: Delta actions after the `commitInfo`.
        facts: the `eventArchive` object.
        commit_info: further fields of Delta's `commitInfo`.
    """
    info = {"eventArchive": {"entrySha256": _BLANK_HASH.decode(), **facts}, **commit_info}
    lines = [{"commitInfo": info}, *actions]
    blank = b"\n".join(json.dumps(line, separators=(",", ":")).encode() for line in lines) + b"\n"
    if not blank.startswith(
        _HASH_PREFIX + _BLANK_HASH
    ):  # pragma: no cover - guards this function's own order of keys
        raise AssertionError("the entry's hash must be its first field")
    return _put_hash(blank, hashlib.sha256(blank).hexdigest().encode())


def _put_hash(entry: bytes, digest: bytes) -> bytes:
    start = len(_HASH_PREFIX)
    return entry[:start] + digest + entry[start + len(_BLANK_HASH) :]


def entry_fault(entry: bytes) -> str | None:
    """What is wrong with these bytes as a log entry of ours, or None if its own hash proves it whole."""
    if not entry:
        return "is empty, as a power cut leaves it"
    digest = entry[len(_HASH_PREFIX) : len(_HASH_PREFIX) + len(_BLANK_HASH)]
    if not entry.startswith(_HASH_PREFIX) or not _HEX_64.fullmatch(digest):
        return "is damaged, or was not written by event-archive"
    if hashlib.sha256(_put_hash(entry, _BLANK_HASH)).hexdigest().encode() != digest:
        return "is damaged: it does not match its own SHA-256"
    return None


def parse_entry(version: int, entry: bytes) -> tuple[Commit, str | None]:
    """The commit that an entry describes, and the hash that it claims for the entry before it.

    Raises:
        ArchiveDamaged: the entry doesn't parse.
    """
    facts: dict[str, Any] = {}
    adds: list[dict[str, Any]] = []
    removed: list[str] = []
    try:
        for line in entry.splitlines():
            ((kind, action),) = json.loads(line).items()
            if kind == "commitInfo":
                facts = action["eventArchive"]
                operation = action["operation"]
            elif kind == "add":
                adds.append(action)
            elif kind == "remove":
                removed.append(action["path"])
        if facts["version"] != version:
            raise ArchiveDamaged(f"log entry {version} is a copy of entry {facts['version']}.")
        if facts["format"] not in _READABLE_FORMATS:
            raise ArchiveDamaged(
                f"log entry {version} is of format {facts['format']}, which this version of event-archive can't read."
            )
        added = tuple(
            DataFile(
                path=add["path"],
                size_bytes=add["size"],
                sha256=facts["files"][add["path"]],
                num_records=(stats := json.loads(add["stats"]))["numRecords"],
                commit_version=version,
                stats=stats,
            )
            for add in adds
        )
        commit = Commit(
            version=version,
            entry_sha256=hashlib.sha256(entry).hexdigest(),
            operation=operation,
            ingested_at_us=facts["ingestedAtUs"],
            events=facts["events"],
            value_bytes=facts["valueBytes"],
            added=added,
            removed=tuple(removed),
            claims=facts["positions"],
            digests=tuple(facts.get("digests", ())),
            row_groups=tuple(facts.get("rowGroups", ())),
            compacted=_compacted(facts.get("compacted")),
            sealed=_sealed(facts.get("sealed")),
        )
        return commit, facts["previousEntrySha256"]
    except (ValueError, KeyError, TypeError, AttributeError, UnboundLocalError) as error:
        raise ArchiveDamaged(
            f"log entry {version} does not parse ({type(error).__name__}: {error})."
        ) from error


def _compacted(fact: dict[str, Any] | None) -> Compacted | None:
    if fact is None:
        return None
    outputs = tuple((output["path"], output["spans"]) for output in fact["outputs"])
    return Compacted(tuple(fact["inputs"]), outputs)


def _sealed(fact: dict[str, Any] | None) -> Sealed | None:
    if fact is None:
        return None
    segments = tuple(SegmentFact(**segment) for segment in fact["segments"])
    return Sealed(segments, fact["state"], fact["stateSha256"], fact["checkpoint"], fact["checkpointSha256"])


REMEDY = "Run `event-archive verify` for the extent of the damage, and restore the file with `event-archive repair`."
