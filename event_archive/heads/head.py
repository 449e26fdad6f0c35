"""Heads: the newest commit of each stream, small enough to be kept where the archive isn't.

A chain of hashes shows every change but one: that its newest links were cut off. Whoever has kept a head can tell, since the
archive of any later day must still contain it: the entry of that version, with that hash, on the same beginning.

What doesn't live here: where heads are kept (`recorded`), and proving what the log says of files (`verify`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from event_archive import layout
from event_archive.archive.history import iter_commits, iter_entries, iter_proved_entries, newest_version
from event_archive.archive.snapshot import read_snapshot
from event_archive.archive.state import readable_states
from event_archive.errors import ArchiveDamaged, FileMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from event_archive.archive.state import State
    from event_archive.storage.store import Store

FORMAT = 1
_FEW = 8
_LINE_START = b'{"format":'
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class StreamHead:
    """The newest commit of one stream, and what there is up to it."""

    version: int
    """-1 if the stream has no table yet."""
    chain_hash: str | None
    """SHA-256 of the entry of that version, and so of all that came before."""
    table_id: str | None
    """SHA-256 of the table's first entry: no two tables have the same."""
    events: int
    value_bytes: int
    committed_at: str | None
    """ISO 8601, UTC."""

    @property
    def commits(self) -> int:
        """Number of commits, the creation of the table included."""
        return self.version + 1


@dataclass(frozen=True, slots=True)
class HeadDocument:
    """Heads of some streams, as they were at one moment."""

    made_at: str
    """ISO 8601, UTC."""
    streams: dict[str, StreamHead]


def read_head(table: Store) -> StreamHead:
    """The head of a table.

    Raises:
        ArchiveDamaged: the log can't be read.
    """
    snapshot = read_snapshot(table)
    time = snapshot.ingested_at_us
    return StreamHead(
        version=snapshot.version,
        chain_hash=snapshot.chain_hash,
        table_id=_entry_sha256(table, 0) if snapshot.version >= 0 else None,
        events=snapshot.events,
        value_bytes=snapshot.value_bytes,
        committed_at=None if time is None else (_EPOCH + dt.timedelta(microseconds=time)).isoformat(),
    )


def document_of(heads: dict[str, StreamHead]) -> HeadDocument:
    """A document with these heads, made now."""
    return HeadDocument(dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), heads)


def encode_document(document: HeadDocument) -> str:
    """The document as one line of JSON, without a line end."""
    heads = {name: {**asdict(head), "commits": head.commits} for name, head in document.streams.items()}
    return json.dumps(
        {"format": FORMAT, "made_at": document.made_at, "streams": heads}, separators=(",", ":")
    )


def decode_document(text: str | bytes) -> HeadDocument:
    """The inverse of `encode_document`.

    Raises:
        ValueError: the text is no such document; the error says why.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("streams"), dict):
        raise ValueError("it has no `streams`, as `event-archive head --json` prints it")  # noqa: TRY004 - to the caller all are one
    if document.get("format") != FORMAT:
        raise ValueError(
            f"it is of format {document.get('format')!r}, which this version of event-archive can't read"
        )
    return HeadDocument(
        str(document.get("made_at")), {name: _decode_head(item) for name, item in document["streams"].items()}
    )


def _decode_head(item: Any) -> StreamHead:
    kinds: dict[str, Any] = {
        "version": int,
        "chain_hash": str,
        "table_id": str,
        "events": int,
        "value_bytes": int,
        "committed_at": str,
    }
    if not isinstance(item, dict):
        raise ValueError("a head isn't an object")  # noqa: TRY004 - as above
    values: dict[str, Any] = {name: item.get(name) for name in kinds}
    is_empty = values["version"] == -1
    for name, kind in kinds.items():
        wrong = not isinstance(values[name], kind) or isinstance(values[name], bool)
        if wrong and not (is_empty and values[name] is None):
            raise ValueError(f"a head has no usable `{name}`")
    return StreamHead(**values)


def read_head_file(path: Path) -> list[HeadDocument]:
    """The documents of a file: one as `event-archive head --json` prints it, or a line for each as `heads:` appends them.

    Raises:
        UsageError: the file can't be read, or holds something else; the text says in which line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the heads can't be read ({error.strerror}).") from error
    try:
        return [decode_document(content)]
    except ValueError as error:
        as_one = error
    documents = list(_decode_lines(path, content))
    if not documents:
        raise UsageError(f"{path}: holds no heads ({as_one}).")
    return documents


def _decode_lines(path: Path, content: bytes) -> Iterator[HeadDocument]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield decode_document(line)
        except ValueError as error:
            if line.startswith(_LINE_START) and not line.endswith(b"}"):
                continue  # its writer was interrupted, and nothing was said to be recorded
            raise UsageError(f"{path}:{number}: is no line with heads ({error}).") from error


def contains_head(table: Store, head: StreamHead) -> str | None:
    """Whether a table still contains a head.

    Proved is the chain from the head to the newest entry of the log folder. What came before the head is proved only as far as it is read,
    which is from the newest state before it; `verify` proves it all.

    Returns:
        None if it does, else a sentence that says what is wrong: cut off, replaced, another table, damaged.
    """
    return contains_heads(table, [head])[0]


def contains_heads(table: Store, heads: Sequence[StreamHead]) -> list[str | None]:
    """The same for many heads of one table, reading its log once; one answer for each."""
    try:
        newest = newest_version(table)
        table_id = _entry_sha256(table, 0) if newest >= 0 else None
    except (ArchiveDamaged, FileMissing) as error:
        return [str(error) if head.version >= 0 else None for head in heads]
    asked = [head for head in dict.fromkeys(heads) if head.version >= 0]
    hashes = _proved_hashes(table, [head for head in asked if head.version <= newest])
    answers = {head: _fault_of_place(head, newest, table_id, hashes.get(head.version)) for head in asked}
    answers |= _faults_of_counts(table, [head for head, fault in answers.items() if fault is None])
    return [answers.get(head) for head in heads]


def _fault_of_place(
    head: StreamHead, newest: int, table_id: str | None, found: str | ArchiveDamaged | None
) -> str | None:
    if newest < head.version:
        there = f"ends with commit {newest}" if newest >= 0 else "is not there"
        return (
            f"the log was cut off: it {there}, but commit {head.version} of {head.committed_at} was there once "
            f"(chain hash {head.chain_hash}, {head.events} events up to it)."
        )
    if table_id != head.table_id:
        return (
            f"this is another table: its first log entry has the SHA-256 {table_id}, and the head is of a table that began "
            f"with {head.table_id}."
        )
    if isinstance(found, ArchiveDamaged):
        return str(found)
    if found != head.chain_hash:
        return (
            f"log entry {head.version} was replaced: its SHA-256 is {found}, and it was {head.chain_hash} when the head was "
            "recorded."
        )
    return None


def _proved_hashes(table: Store, heads: list[StreamHead]) -> dict[int, str | ArchiveDamaged]:
    """SHA-256 of the entries of these heads' versions in the chain that ends with the log folder's newest entry, or why there is no such chain.

    No entry is looked up by its version: whoever can write to the archive could leave the true one beside another history. The walk begins
    with the hash that the oldest head says. Only if no chain goes on from there it begins with the first entry; and if that is damaged,
    behind the damage.
    """
    versions = {head.version for head in heads}
    found: dict[int, str | ArchiveDamaged] = {}
    for base in _bases(heads, found):
        try:
            walked = {version: sha256 for version, sha256 in _chain(table, base) if version in versions}
        except (ArchiveDamaged, FileMissing) as error:
            fault = error if isinstance(error, ArchiveDamaged) else ArchiveDamaged(str(error))
            found |= {version: found.get(version, fault) for version in versions}
        else:
            found |= walked
    return found


def _bases(
    heads: list[StreamHead], found: dict[int, str | ArchiveDamaged]
) -> Iterator[tuple[int, str] | None]:
    """Where walks begin, until all is found; few enough that many heads of another history don't cost a walk each."""

    def is_open(version: int) -> bool:
        return not isinstance(found.get(version), str)

    said = sorted({(head.version, head.chain_hash) for head in heads if head.chain_hash})
    for number, base in enumerate(said[:_FEW]):
        if is_open(base[0]):
            yield base
        if number == 0 and any(is_open(version) for version, _ in said):
            yield None
    for base in said[: -_FEW - 1 : -1]:
        if is_open(base[0]):
            yield base


def _chain(table: Store, base: tuple[int, str] | None) -> Iterator[tuple[int, str]]:
    """Versions and SHA-256 from a base on, which is the first, to the newest entry of the log folder.

    Raises:
        ArchiveDamaged: the newest entry isn't built on the base.
    """
    newest = -1
    if base is not None:
        yield base
    for commit, _ in iter_proved_entries(table, after=base):
        newest = commit.version
        yield newest, commit.entry_sha256
    if base is not None and newest < 0:
        # The base is the newest entry itself, which lies in the log folder.
        sha256 = hashlib.sha256(table.read(layout.entry_name(base[0]))).hexdigest()
        if sha256 != base[1]:
            yield base[0], sha256


def _faults_of_counts(table: Store, heads: list[StreamHead]) -> dict[StreamHead, str | None]:
    """What is wrong with the numbers of events and bytes up to each of these heads, whose entries are the right ones."""
    if not heads:
        return {}
    for name, sha256, state in readable_states(table, until=min(head.version for head in heads)):
        counted = _Counting(heads, state)
        try:
            if counted.go_on(table, seal=(name, sha256)):
                return counted.faults
        except (ArchiveDamaged, FileMissing):
            continue  # the state may be the one that is wrong: the whole log tells
    counted = _Counting(heads, None)
    try:
        counted.go_on(table, seal=None)
    except (ArchiveDamaged, FileMissing) as error:
        return {head: counted.faults.get(head, str(error)) for head in heads}
    return counted.faults


class _Counting:
    """The counts from a state, or the beginning, up to the newest of some heads."""

    def __init__(self, heads: Iterable[StreamHead], state: State | None) -> None:
        self.faults: dict[StreamHead, str | None] = {}
        self._wanted: dict[int, list[StreamHead]] = {}
        for head in heads:
            self._wanted.setdefault(head.version, []).append(head)
        self._after = (state.version, state.entry_sha256) if state else None
        self._events, self._value_bytes = (state.events, state.value_bytes) if state else (0, 0)
        if state:
            self._compare(state.version)

    def go_on(self, table: Store, *, seal: tuple[str, str] | None) -> bool:
        """Reads on, until all heads are passed and a commit has named the state that this began with.

        Returns:
            False if none has: the state counts for nothing.
        """
        is_confirmed = seal is None
        for commit in iter_commits(table, after=self._after):
            self._events += commit.events
            self._value_bytes += commit.value_bytes
            self._compare(commit.version)
            if commit.sealed is not None and (commit.sealed.state, commit.sealed.state_sha256) == seal:
                is_confirmed = True
            if is_confirmed and not self._wanted:
                break
        return is_confirmed

    def _compare(self, version: int) -> None:
        for head in self._wanted.pop(version, ()):
            are_equal = (head.events, head.value_bytes) == (self._events, self._value_bytes)
            self.faults[head] = (
                None
                if are_equal
                else f"up to commit {version} the log has {self._events} events with {self._value_bytes} bytes, and the head says "
                f"{head.events} with {head.value_bytes}."
            )


def _entry_sha256(table: Store, version: int) -> str:
    for found, entry in iter_entries(table, first=version):
        if found == version:
            return hashlib.sha256(entry).hexdigest()
    raise ArchiveDamaged(f"{table.url}: log entry {version} is missing.")
