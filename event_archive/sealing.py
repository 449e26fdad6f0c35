"""Sealing: old log entries leave Delta's log folder, so that a commit costs after ten years what it costs on the first day.

What a seal makes, in this order, each durable before the next: segments with the entries since the last seal; the state of the
log up to the last of them; Delta's checkpoint of that version; a commit that names all of these with their hashes; the pointer to the
checkpoint. Only then are files removed: the entries that an *earlier* seal has in its segments, and checkpoints and states older
than the last two. So whoever is reading on the basis of the checkpoint or state before finds what comes after it. After a crash at any point
everything is still where it was; what was made in vain has no commit that names it, and `clean` removes it.

What doesn't live here: the formats (`archive.segments`, `archive.state`, `archive.checkpoint`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

from event_archive import layout
from event_archive.archive.checkpoint import Tombstone, checkpoint_bytes, last_checkpoint_bytes
from event_archive.archive.commit import Head, commit_seal
from event_archive.archive.history import iter_commits, iter_proved_entries, log_versions
from event_archive.archive.log import REMEDY, SegmentFact
from event_archive.archive.segments import Segment, decode_segment, encode_segment
from event_archive.archive.snapshot import read_snapshot
from event_archive.archive.state import State, encode_state, state_names
from event_archive.errors import ArchiveDamaged, CommitConflict, FileMissing
from event_archive.sources.claims import ClaimFold

if TYPE_CHECKING:
    from event_archive.archive.log import Commit
    from event_archive.storage.store import Store

SEAL_COMMITS = 1000
"""Ingest seals when so many entries aren't sealed."""
_SEGMENT_ENTRIES = 1000
_SEGMENT_BYTES = 64 * 2**20
"""Commits of many small files have entries of megabytes."""
_KEPT = 2
_TOMBSTONES = dt.timedelta(days=7)
"""As long as Delta's writers keep what has left a table, if nobody says otherwise."""


def seal(table: Store, *, at_least: int = SEAL_COMMITS) -> Head | None:
    """Seals all entries that no segment has yet, if there are enough of them.

    Args:
        table: the table.
        at_least: how many entries are enough.

    Returns:
        The newest entry if this call has added it, None if there was too little to seal or another writer was faster.

    Raises:
        ArchiveDamaged: the log can't be read; nothing was removed.
        StorageError: the place refused; nothing is lost, and sealing again goes on.
    """
    snapshot = read_snapshot(table)
    before = snapshot.state
    # What is sealed stands in the commits: the state may be an older one, if the newest is lost.
    known = before.segments if before else ()
    named_since = _named_after(table, before)
    sealed_until = max((segment.last for segment in (*known, *named_since)), default=-1)
    if snapshot.version - sealed_until < at_least:
        return None
    fold = Fold(before)
    made: list[SegmentFact] = []
    pending: list[bytes] = []
    pending_bytes = 0
    for commit, entry in iter_proved_entries(table, after=_head_of(before)):
        if commit.sealed is not None and not {*commit.sealed.segments} <= {*known, *named_since}:
            return None  # another writer seals at this moment
        fold.note(commit, entry)
        if commit.version > sealed_until:
            pending.append(entry)
            pending_bytes += len(entry)
        if len(pending) == _SEGMENT_ENTRIES or pending_bytes >= _SEGMENT_BYTES:
            made.append(_put_segment(table, commit.version, pending))
            pending, pending_bytes = [], 0
    if pending:
        made.append(_put_segment(table, fold.version, pending))
    state = fold.state([*named_since, *made])
    content = encode_state(state)
    state_sha256 = hashlib.sha256(content).hexdigest()
    state_name = layout.state_name(state.version, state_sha256)
    _put(table, state_name, content)
    checkpoint = checkpoint_bytes(
        protocol=state.protocol,
        metadata=state.metadata,
        transactions=state.transactions,
        files=state.files,
        removed=state.removed,
    )
    checkpoint_name = layout.checkpoint_name(state.version)
    if not table.put_new(checkpoint_name, checkpoint) and table.read(checkpoint_name) != checkpoint:
        return None  # another writer seals the same entries with another version of the software
    fact = {
        "segments": [{"first": s.first, "last": s.last, "name": s.name, "sha256": s.sha256} for s in made],
        "state": state_name,
        "stateSha256": state_sha256,
        "checkpoint": checkpoint_name,
        "checkpointSha256": hashlib.sha256(checkpoint).hexdigest(),
    }
    head = _commit(table, state, fact)
    if head is not None:
        _point_to(table, state, len(checkpoint))
        remove_sealed(table, sealed_until)
    return head


def _named_after(table: Store, state: State | None) -> list[SegmentFact]:
    """Segments that commits after a state name and the state doesn't."""
    known = set(state.segments) if state else set()
    commits = iter_commits(table, after=_head_of(state))
    facts = (fact for commit in commits if commit.sealed for fact in commit.sealed.segments)
    return [fact for fact in facts if fact not in known]


def _put(table: Store, name: str, content: bytes) -> None:
    """Puts a file whose name carries its hash; a leftover under the name that has rotted is put right."""
    if not table.put_new(name, content) and table.read(name) != content:
        table.restore(name, [content], sha256=hashlib.sha256(content).hexdigest())


def _point_to(table: Store, state: State, checkpoint_size_bytes: int) -> None:
    """Points Delta's readers to a checkpoint, unless they are pointed to a newer one."""
    with contextlib.suppress(FileMissing, ValueError, KeyError, TypeError):
        pointed_to = json.loads(table.read(layout.LAST_CHECKPOINT))["version"]
        if pointed_to > state.version and layout.checkpoint_name(pointed_to).rpartition("/")[
            2
        ] in table.names(layout.LOG_FOLDER):
            return
    pointer = pointer_to(state, checkpoint_size_bytes)
    table.restore(layout.LAST_CHECKPOINT, [pointer], sha256=hashlib.sha256(pointer).hexdigest())


def pointer_to(state: State, checkpoint_bytes: int) -> bytes:
    """What Delta's `_last_checkpoint` says when it points to the checkpoint of a state."""
    actions = 2 + len(state.transactions) + len(state.removed) + len(state.files)
    return last_checkpoint_bytes(
        version=state.version, actions=actions, size_bytes=checkpoint_bytes, add_files=len(state.files)
    )


def _head_of(state: State | None) -> tuple[int, str] | None:
    return (state.version, state.entry_sha256) if state else None


def _put_segment(table: Store, last: int, entries: list[bytes]) -> SegmentFact:
    first = last - len(entries) + 1
    content = encode_segment(first, entries)
    digest = hashlib.sha256(content).hexdigest()
    name = layout.segment_name(first, last, digest)
    _put(table, name, content)
    return SegmentFact(first, last, name, digest)


def _commit(table: Store, state: State, fact: dict[str, Any]) -> Head | None:
    """Names what was made in a commit, whatever else is committed meanwhile; None if another writer has sealed."""
    while True:
        head = Head(state.version, state.entry_sha256)
        for commit in iter_commits(table, after=_head_of(state)):
            if commit.sealed is not None:
                return None
            head = Head(commit.version, commit.entry_sha256)
        try:
            return commit_seal(table, head, fact)
        except CommitConflict:
            continue


def remove_sealed(table: Store, until: int) -> None:
    """Removes what a later seal has made needless: entries, and all states and checkpoints but the newest.

    Before an entry goes, the segment that has it is read and proved.

    Args:
        table: a table whose segments reach to `until`, and which has a later seal with state and checkpoint.
        until: newest version of an earlier seal.

    Raises:
        ArchiveDamaged: a segment that should have the entries is damaged or missing; they stay.
    """
    _remove_entries(table, [version for version in log_versions(table) if version <= until])
    for version in sorted(_checkpoints(table), reverse=True)[_KEPT:]:
        table.delete(layout.checkpoint_name(version))
    for version, name in state_names(table):
        if version < until:
            table.delete(name)


def _remove_entries(table: Store, versions: list[int]) -> None:
    if not versions:
        return
    state = read_snapshot(table).state
    for fact in state.segments if state else ():
        mine = [version for version in versions if fact.first <= version <= fact.last]
        if not mine:
            continue
        sealed = dict(_whole_segment(table, fact))
        for version in mine:
            if table.read(layout.entry_name(version)) != sealed[version]:
                raise ArchiveDamaged(
                    f"{table.place(layout.entry_name(version))} is another entry than {fact.name} has; none was removed. {REMEDY}"
                )
        for version in mine:
            table.delete(layout.entry_name(version))


def _whole_segment(table: Store, fact: SegmentFact) -> list[tuple[int, bytes]]:
    """Entries of a segment that is as its seal says.

    Raises:
        ArchiveDamaged: it isn't, or isn't there.
    """
    try:
        content = table.read(fact.name)
    except FileMissing as error:
        raise ArchiveDamaged(f"{table.place(fact.name)}: is missing. {REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != fact.sha256:
        raise ArchiveDamaged(f"{table.place(fact.name)}: does not match its SHA-256. {REMEDY}")
    return list(decode_segment(Segment(fact.name, fact.first, fact.last), content))


def _checkpoints(table: Store) -> list[int]:
    names = table.names(layout.LOG_FOLDER)
    return [version for name in names if (version := layout.checkpoint_version(name)) is not None]


class Fold:
    """A state with the commits that came after it."""

    def __init__(self, before: State | None) -> None:
        self._before = before
        self._claims = ClaimFold()
        self._files = {file.path: file for file in before.files} if before else {}
        self._removed = list(before.removed) if before else []
        self._transactions = dict(before.transactions) if before else {}
        self._table_actions = {"protocol": before.protocol, "metaData": before.metadata} if before else {}
        self._events, self._value_bytes = (before.events, before.value_bytes) if before else (0, 0)
        self._newest: Commit | None = None
        if before:
            for abridged in before.abridged:
                self._claims.note(abridged.as_commit())

    @property
    def version(self) -> int:
        """Of the newest commit."""
        assert self._newest is not None  # noqa: S101 - at least one entry is sealed
        return self._newest.version

    def note(self, commit: Commit, entry: bytes) -> None:
        """Takes in the next commit."""
        for path in commit.removed:
            file = self._files.pop(path)
            self._removed.append(Tombstone(path, file.size_bytes, commit.ingested_at_us // 1000))
        self._files.update((file.path, file) for file in commit.added)
        for line in entry.splitlines()[1:]:
            ((kind, action),) = json.loads(line).items()
            if kind == "txn":
                self._transactions[action["appId"]] = action["version"]
            elif kind in ("protocol", "metaData"):
                self._table_actions[kind] = action
        self._events += commit.events
        self._value_bytes += commit.value_bytes
        self._claims.note(commit)
        self._newest = commit

    def state(self, segments: list[SegmentFact]) -> State:
        """What it adds up to; `segments` are those that the state before doesn't know."""
        newest = self._newest
        assert newest is not None  # noqa: S101 - at least one entry is sealed
        oldest_ms = newest.ingested_at_us // 1000 - _TOMBSTONES // dt.timedelta(milliseconds=1)
        return State(
            version=newest.version,
            entry_sha256=newest.entry_sha256,
            events=self._events,
            value_bytes=self._value_bytes,
            ingested_at_us=newest.ingested_at_us,
            files=tuple(self._files.values()),
            removed=tuple(file for file in self._removed if file.removed_at_ms >= oldest_ms),
            abridged=self._claims.abridged(),
            segments=(*(self._before.segments if self._before else ()), *segments),
            transactions=self._transactions,
            protocol=self._table_actions["protocol"],
            metadata=self._table_actions["metaData"],
        )
