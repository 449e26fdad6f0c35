"""Copies of streams from one archive to another, byte for byte: what is new, proved while it passes.

A copy goes along the log. For each stretch of it the data files come first, then what seals name, then the entries, in
order; so whatever stops a copy, the other archive is one that was there once, and the next copy goes on from its newest
entry. What the source has sealed away comes as whole segments. The log decides what a file must be: bytes with another
hash are never put anywhere, and an archive whose log goes on differently is never touched.

What doesn't live here: repairing single files (`repair`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import iter_entries, iter_proved_entries, log_versions, newest_version
from event_archive.archive.log import REMEDY, entry_fault, parse_entry
from event_archive.archive.snapshot import read_snapshot
from event_archive.archive.state import decode_state
from event_archive.diverged import why_no_copy
from event_archive.errors import ArchiveDamaged, FileMissing, UsageError
from event_archive.sealing import pointer_to, remove_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from event_archive.archive.log import Commit, DataFile, Sealed, SegmentFact
    from event_archive.archive.snapshot import Snapshot
    from event_archive.storage.store import Store

_FILES_AT_ONCE = 4
_STRETCH_COMMITS = 64
_STRETCH_BYTES = 2**28
_STRETCH_ENTRY_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy of one stream did."""

    stream: str
    version: int
    """Newest commit that both have now; -1 if the source has none."""
    chain_hash: str | None
    commits: int
    """Commits that the target didn't have."""
    files: int
    """Data files that were moved."""
    bytes: int
    """All bytes that were moved, of data files, log entries and what seals name."""
    files_there: int
    """Data files of these commits that the target had already, of a copy that was interrupted; each was read and proved."""
    files_gone: int
    """Data files of these commits that `compact` has replaced since, and that the source doesn't have any more."""
    seconds: float


@dataclass(slots=True)
class _Stretch:
    """Some commits one after the other; their entries go to the target one by one, or as a segment."""

    segment: SegmentFact | None = None
    commits: list[tuple[Commit, bytes]] = field(default_factory=list)
    entry_bytes: int = 0
    file_bytes: int = 0

    def add(self, commit: Commit, entry: bytes) -> None:
        self.commits.append((commit, entry))
        self.entry_bytes += len(entry)
        self.file_bytes += sum(file.size_bytes for file in commit.added)

    @property
    def is_full(self) -> bool:
        if self.segment is not None:
            return self.commits[-1][0].version == self.segment.last
        return (
            len(self.commits) >= _STRETCH_COMMITS
            or self.entry_bytes >= _STRETCH_ENTRY_BYTES
            or self.file_bytes >= _STRETCH_BYTES
        )


def streams_of(archive: Store, asked: Sequence[str] | None = None) -> list[str]:
    """Names of the streams that an archive has.

    Args:
        archive: the store of the archive.
        asked: those that are meant; None for all.

    Raises:
        UsageError: one that was asked for isn't there, or there is none at all.
    """
    found = sorted(
        name
        for name in archive.folders()
        if layout.STREAM_NAME.fullmatch(name) and newest_version(archive.child(name)) >= 0
    )
    if not found:
        raise UsageError(f"{archive.url}: there is no archive here.")
    for name in asked or ():
        if name not in found:
            raise UsageError(
                f"{archive.url}: has no stream {name!r}; those that it has are: {', '.join(found)}."
            )
    return list(dict.fromkeys(asked or found))


def copy_stream(
    source: Store, target: Store, *, on_progress: Callable[[int, int], None] | None = None
) -> CopyResult:
    """Brings the table of a stream to where the source is now.

    Nothing else may write to the target meanwhile; what writes to the source doesn't matter.

    Args:
        source: the store of a table.
        target: the store of its copy; it need not exist.
        on_progress: called with the bytes of data files that are dealt with, and about how many there are.

    Raises:
        CopyRefused: the target has other commits than the source, or more; the text names the first one that differs.
        ArchiveDamaged: source or target is damaged; what was copied until then is whole.
        StorageError: a place refused; copying again goes on from there.
    """
    return _Copying(source, target, on_progress).run()


class _Copying:
    def __init__(self, source: Store, target: Store, on_progress: Callable[[int, int], None] | None) -> None:
        self._source = source
        self._target = target
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._names = set(target.names(layout.OWN_FOLDER))
        self._commits = self._files = self._bytes = self._there = self._gone = self._done = self._total = 0
        self._active: dict[str, DataFile] = {}
        self._seals: dict[int, Sealed] = {}

    def run(self) -> CopyResult:
        started = time.monotonic()
        # What a copy that didn't end has left in segments counts for nothing yet: the log goes up to its newest entry.
        there = read_snapshot(self._target, may_be_cut_off=True)
        pinned = read_snapshot(
            self._source
        )  # in this order: the source may grow meanwhile, and so may its copy
        after = self._common_head(there, pinned)
        if pinned.version >= 0:
            self._active = {file.path: file for file in pinned.files}
            known = after[0] if after else -1
            self._total = sum(file.size_bytes for file in pinned.files if file.commit_version > known)
            self._copy(pinned, after)
            self._tidy(pinned)
        return CopyResult(
            stream=self._source.name,
            version=pinned.version,
            chain_hash=pinned.chain_hash,
            commits=self._commits,
            files=self._files,
            bytes=self._bytes,
            files_there=self._there,
            files_gone=self._gone,
            seconds=time.monotonic() - started,
        )

    def _common_head(self, there: Snapshot, pinned: Snapshot) -> tuple[int, str] | None:
        """The target's newest entry, which is one of the source's; None if it has none."""
        if there.chain_hash is None:
            return None
        if there.version <= pinned.version:
            _, entry = next(iter_entries(self._source, first=there.version))
            if hashlib.sha256(entry).hexdigest() == there.chain_hash:
                return there.version, there.chain_hash
        raise why_no_copy(self._source, self._target)

    def _copy(self, pinned: Snapshot, after: tuple[int, str] | None) -> None:
        sealed_until = self._note_seals(pinned)
        segments = [*(pinned.state.segments if pinned.state else ())]
        last = after[0] if after else -1
        whole = {
            segment.first: segment
            for segment in segments
            if last < segment.first and segment.last <= sealed_until
        }
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            for stretch in self._stretches(pinned.version, after, whole):
                self._refuse_others(stretch)
                self._copy_files(stretch, pool)
                if stretch.segment is None:
                    self._copy_entries(stretch)
                else:
                    self._copy_segment(stretch, stretch.segment)
                self._commits += len(stretch.commits)

    def _note_seals(self, pinned: Snapshot) -> int:
        """Takes in the seals whose states and checkpoints the source may still have; returns up to where it has no entries."""
        first = None
        for version, entry in self._entries_in_folder(pinned.version):
            first = version if first is None else first
            commit, _ = parse_entry(version, entry)
            if commit.sealed is not None:
                state = commit.sealed.state.rpartition("/")[2]
                if (covered := layout.state_version(state)) is not None:
                    self._seals[covered] = commit.sealed
        return pinned.version if first is None else first - 1

    def _entries_in_folder(self, until: int) -> Iterator[tuple[int, bytes]]:
        versions = [version for version in log_versions(self._source) if version <= until]
        if versions:  # from there on wherever they are, should they be sealed meanwhile
            for version, entry in iter_entries(self._source, first=versions[0]):
                if version > until:
                    return
                if fault := entry_fault(entry):
                    raise ArchiveDamaged(
                        f"{self._source.place(layout.entry_name(version))} {fault}. {REMEDY}"
                    )
                yield version, entry

    def _stretches(
        self, until: int, after: tuple[int, str] | None, whole: dict[int, SegmentFact]
    ) -> Iterator[_Stretch]:
        stretch = _Stretch()
        for commit, entry in iter_proved_entries(self._source, after=after):
            if commit.version > until:
                break
            if (segment := whole.get(commit.version)) and stretch.segment is None:
                if stretch.commits:
                    yield stretch
                stretch = _Stretch(segment)
            stretch.add(commit, entry)
            if stretch.is_full:
                yield stretch
                stretch = _Stretch()
        if stretch.commits:
            yield stretch

    def _copy_files(self, stretch: _Stretch, pool: ThreadPoolExecutor) -> None:
        files = [file for commit, _ in stretch.commits for file in commit.added]
        works = [pool.submit(self._copy_file, file) for file in files]
        try:
            for work in works:
                work.result()
        finally:
            for work in works:
                work.cancel()

    def _copy_file(self, file: DataFile) -> None:
        name = layout.checked_data_file(file.path, self._source.url)
        if self._has(name, file):
            with self._lock:
                self._there += 1
            self._show(file.size_bytes)
            return
        try:
            # Read whole before anything of it has a name; `restore` compares what has passed.
            self._target.restore(name, self._shown(self._source.chunks(name)), sha256=file.sha256)
        except FileMissing as error:
            if file.path in self._active:
                raise ArchiveDamaged(f"{self._source.place(name)}: is missing. {REMEDY}") from error
            with self._lock:
                self._gone += 1
            return
        except ArchiveDamaged as error:
            raise ArchiveDamaged(
                f"{self._source.place(name)}: is damaged: its bytes don't have the SHA-256 that its commit recorded. {REMEDY}"
            ) from error
        with self._lock:
            self._files += 1
            self._bytes += file.size_bytes

    def _has(self, name: str, file: DataFile) -> bool:
        """Whether the target has these very bytes, from a copy that ended before the commit; they are read."""
        try:
            if self._target.size(name) != file.size_bytes:
                return False
            with self._target.hashed(name) as found:
                return found.sha256 == file.sha256
        except FileMissing:
            return False

    def _shown(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            self._show(len(chunk))

    def _show(self, more: int) -> None:
        with self._lock:
            self._done += more
            if self._on_progress is not None:
                self._on_progress(self._done, max(self._done, self._total))

    def _copy_entries(self, stretch: _Stretch) -> None:
        for commit, entry in stretch.commits:
            if commit.sealed is not None:
                self._copy_sealed(commit.sealed)
            name = layout.entry_name(commit.version)
            if self._target.put_new(name, entry):
                self._bytes += len(entry)
            elif self._target.read(name) != entry:
                raise why_no_copy(self._source, self._target, commit.version)

    def _copy_segment(self, stretch: _Stretch, segment: SegmentFact) -> None:
        for commit, _ in stretch.commits:
            if commit.sealed is not None:
                self._copy_sealed(commit.sealed)
        # As late as can be: beside other entries of the target's own the segment would contradict them.
        self._refuse_others(stretch)
        self._copy_own(segment.name, segment.sha256)
        if seal := self._seals.get(segment.last):
            # Now, since Delta's readers can't get over the entries that never come unless there is a checkpoint.
            self._copy_ends_of(seal)

    def _refuse_others(self, stretch: _Stretch) -> None:
        """Refuses entries that somebody has put where the segment goes on; one by one they would have been in the way."""
        entries = {commit.version: entry for commit, entry in stretch.commits}
        for version in log_versions(self._target):
            if version in entries and self._target.read(layout.entry_name(version)) != entries[version]:
                raise why_no_copy(self._source, self._target, version)

    def _copy_sealed(self, sealed: Sealed) -> None:
        """What a seal names, before the commit that names it."""
        for segment in sealed.segments:
            self._copy_own(segment.name, segment.sha256)
        if sealed in self._seals.values():
            self._copy_ends_of(sealed)

    def _copy_ends_of(self, sealed: Sealed) -> None:
        """State and checkpoint; the source has those of its newest seals only."""
        for name, sha256 in (
            (sealed.state, sealed.state_sha256),
            (sealed.checkpoint, sealed.checkpoint_sha256),
        ):
            try:
                self._copy_own(name, sha256)
            except FileMissing:
                continue

    def _copy_own(self, name: str, sha256: str) -> None:
        """A file that a seal names, unless the target has these very bytes; they are read."""
        last = name.rpartition("/")[2]
        there = _read(self._target, name)
        if there is None or hashlib.sha256(there).hexdigest() != sha256:
            content = self._source.read(name)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise ArchiveDamaged(
                    f"{self._source.place(name)}: is damaged: it doesn't have the SHA-256 that the log says. {REMEDY}"
                )
            if there is not None or not self._target.put_new(name, content):
                self._target.restore(name, [content], sha256=sha256)  # the log says which bytes belong there
            self._bytes += len(content)
        self._names.add(last)

    def _tidy(self, pinned: Snapshot) -> None:
        """Points Delta's readers to the newest checkpoint, and lets go of what the source has let go of."""
        ends = sorted(self._seals)
        there = set(self._target.names(layout.LOG_FOLDER))
        for version in reversed(ends):
            seal = self._seals[version]
            if (
                seal.checkpoint.rpartition("/")[2] not in there
                or seal.state.rpartition("/")[2] not in self._names
            ):
                continue
            state = decode_state(self._target.read(seal.state))
            pointer = pointer_to(state, self._target.size(seal.checkpoint))
            if _read(self._target, layout.LAST_CHECKPOINT) != pointer:
                self._target.restore(
                    layout.LAST_CHECKPOINT, [pointer], sha256=hashlib.sha256(pointer).hexdigest()
                )
                self._bytes += len(pointer)
            earlier = [end for end in ends if end < version]
            has_segments = all(segment.name.rpartition("/")[2] in self._names for segment in state.segments)
            if earlier and has_segments and pinned.version > version:
                remove_sealed(self._target, earlier[-1])
            return


def _read(table: Store, name: str) -> bytes | None:
    try:
        return table.read(name)
    except FileMissing:
        return None
