"""Cleaning: removes what an archive has no use for any more, and nothing else.

That are five kinds of files: data files that no commit has ever referred to, as an interrupted write leaves them; files that were
being written when their writer died; data files that a compaction replaced long ago; what a seal made that was never committed;
and what is kept in sealed segments as well. Whatever else lies in the table is named and left alone.

Nothing is removed from a table whose log can't be proved from its first entry to its last, or whose newest entries were cut off, and no
replaced file before those that took its place have been proved. No data file that no commit refers to is removed while one that the log names is
missing: a log that was put back from a backup names files that a compaction has replaced since. What doesn't live here: making any of those files.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import iter_commits, refuse_cut_off_log, refuse_lost_log
from event_archive.archive.log import REMEDY
from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from event_archive.archive.log import Commit, DataFile, Sealed
    from event_archive.config import Config
    from event_archive.storage.store import Store, StoredFile

ABANDONED_AFTER = dt.timedelta(days=1)
"""No write takes so long: what is older and was never committed never will be."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SEALS_KEPT = 2
_COMPACTED_NAME = "/compacted-"


class Reason(StrEnum):
    """Why a file is of no use any more."""

    unreferenced = "no commit refers to it"
    pending = "its writer is gone"
    replaced = "replaced by compaction"
    unsealed = "made for a seal that was not committed"
    sealed = "kept in a sealed segment"
    outdated = "a newer seal has taken its place"


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that was removed, or would be."""

    name: str
    """Relative to the table."""
    size_bytes: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What a cleaning of one stream did, or would do."""

    stream: str
    is_dry_run: bool
    removed: tuple[Removed, ...]
    replaced_files: int
    """Files that compaction has replaced, and that stay for a while."""
    replaced_bytes: int
    foreign: tuple[str, ...]
    """Names of files that aren't ours; they are left alone."""
    problems: tuple[str, ...]
    """Sentences on why files that look useless were not removed all the same."""

    @property
    def removed_bytes(self) -> int:
        """Their size together."""
        return sum(file.size_bytes for file in self.removed)


def clean_stream(
    config: Config,
    stream: str,
    *,
    dry_run: bool = False,
    now: dt.datetime | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CleanResult:
    """Removes from the table of `stream` what is of no use any more.

    Safe beside ingests, readers and compactions.

    Args:
        config: the configuration; its `keep_replaced` says how long files stay that compaction has replaced.
        stream: name of a configured stream.
        dry_run: only say what would be removed.
        now: the time that ages are counted to; the clock's if not given.
        on_progress: called with bytes proved and bytes to prove.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the log can't be proved, or its newest entries were cut off; nothing was removed.
        StorageError: the place refused.
    """
    config.stream(stream)
    table = config.table(stream)
    now = now or dt.datetime.now(dt.UTC)
    refuse_cut_off_log(table)
    files = list(table.files())  # before the log is read: what is committed meanwhile is in the log then
    history = _History({file.name for file in files})
    for commit in iter_commits(table):
        history.note(commit, table.url)
    if history.head is None:
        refuse_lost_log(table)
        return CleanResult(stream, dry_run, (), 0, 0, tuple(file.name for file in files), ())
    choice = _Choice(table, history, now, config.keep_replaced)
    for file in files:
        choice.look_at(file)
    problems = [
        *choice.spare_what_may_hold_missing_events(),
        *choice.spare_what_has_no_whole_successor(on_progress),
    ]
    removed = choice.removed if dry_run else list(_remove(table, history, choice.removed))
    return CleanResult(
        stream=stream,
        is_dry_run=dry_run,
        removed=tuple(removed),
        replaced_files=len(choice.replaced),
        replaced_bytes=sum(file.size_bytes for file in choice.replaced),
        foreign=tuple(choice.foreign),
        problems=tuple(problems),
    )


def _remove(table: Store, history: _History, chosen: list[Removed]) -> Iterator[Removed]:
    """Removes files that no commit has begun to refer to since they were chosen."""
    # First what a seal may take at this moment, since it would be made again under the same name.
    in_order = sorted(chosen, key=lambda file: file.reason != Reason.unsealed)
    refuse_cut_off_log(table)
    for number, file in enumerate(in_order):
        if number == 0 or file.reason == Reason.unsealed:
            for commit in iter_commits(table, after=history.head):
                history.note(commit, table.url)
        is_named = file.name in history.active or file.name in history.named
        if is_named and file.reason in (Reason.unreferenced, Reason.replaced, Reason.unsealed):
            continue
        table.delete(file.name)
        yield file


@dataclass(slots=True)
class _History:
    """What commits say about the files that lie in the table."""

    names: set[str]
    """Of those files; of others nothing is remembered."""
    head: tuple[int, str] | None = None
    active: dict[str, DataFile] = field(default_factory=dict)
    replaced: dict[str, Commit] = field(default_factory=dict)
    """By which commit."""
    successors: dict[str, Commit] = field(default_factory=dict)
    """The same, also of files that have left the place."""
    named: set[str] = field(default_factory=set)
    """What seals have made."""
    seals: list[Sealed] = field(default_factory=list)
    sealed_until: int = -1
    """The newest version that a seal has in its segments; no later seal makes anything of it or of those before."""
    elsewhere: set[str] = field(default_factory=set)
    """Active files that weren't among those that lie in the table: missing, or brought since."""

    def note(self, commit: Commit, url: str) -> None:
        """Takes in the next commit."""
        self.head = (commit.version, commit.entry_sha256)
        for path in commit.removed:
            name = layout.checked_data_file(path, url)
            self.active.pop(name, None)
            self.elsewhere.discard(name)
            if name in self.names:
                self.replaced[name] = commit
            if _COMPACTED_NAME in name:
                self.successors[name] = commit
        for file in commit.added:
            name = layout.checked_data_file(file.path, url)
            if name in self.names or commit.compacted:
                self.active[name] = file
            if name not in self.names:
                self.elsewhere.add(name)
        if commit.sealed is not None:
            sealed = commit.sealed
            self.seals.append(sealed)
            self.sealed_until = max([self.sealed_until, *(segment.last for segment in sealed.segments)])
            self.named.update((sealed.state, sealed.checkpoint, *(s.name for s in sealed.segments)))


class _Choice:
    """Which files are of no use any more."""

    def __init__(
        self, table: Store, history: _History, now: dt.datetime, keep_replaced: dt.timedelta
    ) -> None:
        self._table = table
        self._history = history
        self._now = now
        self._keep_replaced = keep_replaced
        self.removed: list[Removed] = []
        self.replaced: list[StoredFile] = []
        self.foreign: list[str] = []
        # Readers in flight may stand on the seal before the newest one: as when entries are sealed.
        states = [layout.state_version(_last(seal.state)) or 0 for seal in history.seals]
        self._sealed_until = states[-2] if len(states) >= _SEALS_KEPT else -1
        self._kept_checkpoints = {seal.checkpoint for seal in history.seals[-_SEALS_KEPT:]} | _pointed_to(
            table
        )
        self._proved_segments: dict[str, bool] = {}

    def look_at(self, file: StoredFile) -> None:
        """Decides about one file."""
        name = file.name
        history = self._history
        folder, _, last = name.rpartition("/")
        is_old = self._now - file.modified_at > ABANDONED_AFTER
        version = layout.entry_version(last) if folder == layout.LOG_FOLDER else None
        if layout.is_pending(last):
            self._take(file, Reason.pending, when=is_old)
        elif name in history.replaced:
            self._look_at_replaced(file, history.replaced[name])
        elif name in history.active or name == layout.LAST_CHECKPOINT:
            return
        elif layout.is_data_file(name):
            self._look_at_unreferenced(file, is_old=is_old)
        elif version is not None:
            self._take(
                file, Reason.sealed, when=version <= self._sealed_until and self._is_in_segment(version)
            )
        elif folder in (layout.LOG_FOLDER, layout.OWN_FOLDER):
            self._look_at_sealed(file, last, is_old=is_old)
        else:
            self.foreign.append(name)

    def _look_at_replaced(self, file: StoredFile, by: Commit) -> None:
        replaced_at = _EPOCH + dt.timedelta(microseconds=by.ingested_at_us)
        if self._now - replaced_at > self._keep_replaced:
            self._take(file, Reason.replaced)
        else:
            self.replaced.append(file)

    def _look_at_unreferenced(self, file: StoredFile, *, is_old: bool) -> None:
        version = layout.data_file_version(file.name)
        newest = self._history.head[0] if self._history.head else -1
        if version is not None and version > newest + 1:
            raise ArchiveDamaged(
                f"{self._table.place(file.name)} was written for commit {version}, but the log ends at {newest}: its newest entries "
                f"were cut off, and nothing is removed. {REMEDY}"
            )
        if version is None and _COMPACTED_NAME not in file.name:
            self.foreign.append(file.name)
        else:
            self._take(file, Reason.unreferenced, when=is_old)

    def _look_at_sealed(self, file: StoredFile, last: str, *, is_old: bool) -> None:
        """A segment, a state, a checkpoint, or none of these."""
        history = self._history
        is_named = file.name in history.named
        state, checkpoint = layout.state_version(last), layout.checkpoint_version(last)
        span = layout.segment_range(last)
        if file.name in self._kept_checkpoints:
            return
        if state is None and checkpoint is None and span is None:
            self.foreign.append(file.name)
        elif not is_named:
            # A seal that comes now begins behind the last one: it makes the same file anew, or takes this one.
            newest = max(version for version in (state, checkpoint, span and span[1]) if version is not None)
            self._take(file, Reason.unsealed, when=is_old and newest <= history.sealed_until)
        elif state is not None:
            self._take(file, Reason.outdated, when=state < self._sealed_until)
        elif checkpoint is not None:
            self._take(file, Reason.outdated)

    def _is_in_segment(self, version: int) -> bool:
        """Whether a segment that is as its seal says has the entry of a version."""
        facts = (fact for seal in self._history.seals for fact in seal.segments)
        fact = next((fact for fact in facts if fact.first <= version <= fact.last), None)
        if fact is None:
            return False
        if fact.name not in self._proved_segments:
            self._proved_segments[fact.name] = _is_whole(self._table, fact.name, fact.sha256)
        return self._proved_segments[fact.name]

    def _take(self, file: StoredFile, reason: Reason, *, when: bool = True) -> None:
        if when:
            self.removed.append(Removed(file.name, file.size_bytes, reason))

    def spare_what_may_hold_missing_events(self) -> list[str]:
        """Leaves all data files that no commit refers to if one is missing that the log names; gives a sentence on it."""
        if all(file.reason != Reason.unreferenced for file in self.removed):
            return []
        missing = next(
            (name for name in sorted(self._history.elsewhere) if _is_missing(self._table, name)), None
        )
        if missing is None:
            return []
        self.removed = [file for file in self.removed if file.reason != Reason.unreferenced]
        place = self._table.place(missing)
        reason = "they may have its events, if the log was put back from a backup"
        return [
            f"{place}: is missing, so the data files that no commit refers to were not removed: {reason}. {REMEDY}"
        ]

    def spare_what_has_no_whole_successor(self, on_progress: Callable[[int, int], None] | None) -> list[str]:
        """Leaves replaced files whose successors are missing or damaged: they have the events. Gives a sentence on each such successor."""
        replaced = {
            file.name: self._successors(file.name) for file in self.removed if file.reason == Reason.replaced
        }
        needed = {name: file for files in replaced.values() for name, file in files.items()}
        total, done = sum(file.size_bytes for file in needed.values()), 0
        damaged = set()
        for name, file in needed.items():
            if not _is_whole(self._table, name, file.sha256):
                damaged.add(name)
            done += file.size_bytes
            if on_progress is not None:
                on_progress(done, total)
        spared = {name for name, files in replaced.items() if damaged & files.keys()}
        self.removed = [file for file in self.removed if file.name not in spared]
        return [
            f"{self._table.place(name)}: is missing or damaged, so the files that it replaced were not removed. {REMEDY}"
            for name in sorted(damaged)
        ]

    def _successors(self, name: str) -> dict[str, DataFile]:
        """The active files that hold the events of one that was replaced, by name."""
        found = {}
        commits = [self._history.replaced[name]]
        seen = set()
        while commits:
            commit = commits.pop()
            if commit.version in seen:
                continue
            seen.add(commit.version)
            for file in commit.added:
                successor = layout.checked_data_file(file.path, self._table.url)
                if successor in self._history.active:
                    found[successor] = file
                else:
                    commits.append(self._history.successors[successor])
        return found


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _is_whole(table: Store, name: str, sha256: str) -> bool:
    try:
        with table.hashed(name) as hashed:
            return hashed.sha256 == sha256
    except FileMissing:
        return False


def _is_missing(table: Store, name: str) -> bool:
    try:
        table.size(name)
    except FileMissing:
        return True
    return False


def _pointed_to(table: Store) -> set[str]:
    """The checkpoint that Delta's readers begin with."""
    try:
        return {layout.checkpoint_name(json.loads(table.read(layout.LAST_CHECKPOINT))["version"])}
    except (FileMissing, ValueError, KeyError, TypeError):
        return set()
