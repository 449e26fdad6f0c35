"""The log of a table: what an entry holds, how entries are chained, and reading them back with proof.

The log is a Delta Lake log (one JSON entry per commit, after github.com/delta-io/delta, PROTOCOL.md). Besides Delta's
actions each entry carries, in its `commitInfo`, an `eventArchive` object with what Delta doesn't know: the SHA-256 of
the entry itself, of the entry before it, of each file, and the positions of the sources.

What doesn't live here: making a commit (`commit`) and what the whole log adds up to (`snapshot`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive import layout
from event_archive.durable import storage_errors
from event_archive.errors import ArchiveDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 1
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
        if facts["format"] != FORMAT:
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
        )
        return commit, facts["previousEntrySha256"]
    except (ValueError, KeyError, TypeError, AttributeError, UnboundLocalError) as error:
        raise ArchiveDamaged(
            f"log entry {version} does not parse ({type(error).__name__}: {error})."
        ) from error


def log_versions(table: Path) -> list[int]:
    """Versions that the log folder holds, in order; empty if there is no table."""
    folder = table / layout.LOG_FOLDER
    with storage_errors(folder):
        if not os.path.lexists(folder):
            return []
        names = [entry.name for entry in folder.iterdir()]
    return sorted(version for name in names if (version := layout.entry_version(name)) is not None)


def refuse_lost_log(table: Path) -> None:
    """Refuses a table that has data files but no log: starting it anew would archive everything a second time.

    Raises:
        ArchiveDamaged: the log was there once.
    """
    if lost := next(table.glob("ingest_date=*/*.parquet"), None):
        raise ArchiveDamaged(f"{table}: has data files ({lost.name}) but no log entries. {REMEDY}")


def read_entry(table: Path, version: int) -> bytes:
    """Bytes of one log entry."""
    path = table / layout.LOG_FOLDER / layout.entry_name(version)
    with storage_errors(path):
        return path.read_bytes()


def iter_commits(table: Path, *, until: int | None = None) -> Iterator[Commit]:
    """Commits in order, each proved by its own hash and built on the one before it.

    Args:
        table: folder of the table; without a log there is nothing to yield.
        until: last version to yield, None for all.

    Raises:
        ArchiveDamaged: an entry is missing, empty, doesn't parse, or isn't the one that its successor was built on.
    """
    versions = log_versions(table)
    last = versions[-1] if versions else -1
    if until is not None and until > last:
        raise ArchiveDamaged(f"{table}: commit {until} was asked for, but the newest log entry is {last}.")
    before: Commit | None = None
    for expected, version in enumerate(versions):
        if version != expected:
            raise ArchiveDamaged(f"{table}: log entry {expected} is missing. {REMEDY}")
        entry = read_entry(table, version)
        place = f"{table / layout.LOG_FOLDER / layout.entry_name(version)}"
        if fault := entry_fault(entry):
            raise ArchiveDamaged(f"{place} {fault}. {REMEDY}")
        try:
            commit, previous = parse_entry(version, entry)
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{place}: {error} {REMEDY}") from error
        if previous != (before.entry_sha256 if before else None):
            raise ArchiveDamaged(
                f"{table}: log entry {version} was built on another entry {version - 1} than the one in the log. {REMEDY}"
            )
        before = commit
        if until is None or version <= until:
            yield commit


REMEDY = "Run `event-archive verify` for the extent of the damage, and restore the file from a copy."
