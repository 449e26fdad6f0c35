"""The files of a stream of files again, byte for byte, and a check of each file's hash.

What doesn't live here: events as JSON lines of our own making (`lines`).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import uuid
from dataclasses import dataclass
from operator import attrgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from event_archive.archive.events_by_commit import rows_by_commit
from event_archive.archive.history import iter_commits
from event_archive.durable import sha256_of, storage_errors, sync
from event_archive.errors import ArchiveDamaged, UsageError
from event_archive.sources.files.lines import join
from event_archive.sources.files.positions import FileState, decode_claims, decode_source_id
from event_archive.sources.kafka.positions import is_of_kafka

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from event_archive.archive.events_by_commit import CommitRows
    from event_archive.archive.log import Commit, DataFile
    from event_archive.config import Config

_COLUMNS = ("source_id", "source_offset", "value")
_NO_ROWS: tuple[int, Iterator[CommitRows]] = (-1, iter(()))


@dataclass(frozen=True, slots=True)
class ReplayedFile:
    """One file that was written back."""

    source_id: str
    path: str
    events: int
    bytes: int
    sha256: str
    is_identical: bool
    """Whether its bytes hash to what the archive recorded of the original's decompressed bytes."""


def replay_to_folder(
    config: Config, stream: str, folder: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> list[ReplayedFile]:
    """Writes the files that `stream` was archived from into `folder`, decompressed.

    A name loses its `.gz` or `.zst`; a later generation of a file and a name that is taken get a suffix. Nothing is
    replaced: the folder must be empty or not exist.

    Args:
        config: the configuration.
        stream: name of a configured stream.
        folder: where to write.
        on_progress: called with events written and events to write.

    Raises:
        UsageError: there is no such stream, or the folder isn't empty.
        ArchiveDamaged: the archive is damaged; nothing is left in the folder under its final name.
        StorageError: the disk refused.
    """
    config.stream(stream)
    table = config.table(stream)
    refuse_full_folder(folder)
    commits = list(iter_commits(table))
    if any(is_of_kafka(commit.claims) for commit in commits):
        raise UsageError(
            f"{stream}: some of its events came from a topic, not from files; --envelope writes all of them."
        )
    total = sum(commit.events for commit in commits)
    final: dict[str, FileState] = {}
    for commit in commits:
        final.update((claim.state.source_id, claim.state) for claim in decode_claims(commit.claims))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        writer = _FolderWriter(folder, final)
        done = 0
        rows = rows_by_commit(table, _files(commits), _COLUMNS, scratch=config.cache.path / "scratch")
        by_commit = itertools.groupby(rows, key=attrgetter("version"))
        version, parts = next(by_commit, _NO_ROWS)
        try:
            for commit in commits:
                if commit.events and commit.version != version:
                    raise ArchiveDamaged(f"{table.url}: the events of commit {commit.version} are missing.")
                writer.write(commit, (part.rows for part in parts) if commit.events else ())
                if commit.events:
                    version, parts = next(by_commit, _NO_ROWS)
                done += commit.events
                if on_progress is not None:
                    on_progress(done, total)
            return writer.finish()
        finally:
            writer.remove_partials()


def _files(commits: Iterable[Commit]) -> list[DataFile]:
    """The data files as these commits have left them."""
    files: dict[str, DataFile] = {}
    for commit in commits:
        for path in commit.removed:
            files.pop(path, None)
        files.update((file.path, file) for file in commit.added)
    return list(files.values())


def refuse_full_folder(folder: Path) -> None:
    """Refuses a folder in which something might be replaced.

    Raises:
        UsageError: it isn't empty, or no folder.
    """
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{folder}: is not an empty folder; replay never replaces a file, so name another."
            )


class _FolderWriter:
    def __init__(self, folder: Path, final: dict[str, FileState]) -> None:
        self._folder = folder
        self._final = final
        self._targets = target_paths(list(final))
        self._token = uuid.uuid4().hex
        for target in {os.path.dirname(target) for target in self._targets.values()}:  # noqa: PTH120 - of text
            (folder / target).mkdir(parents=True, exist_ok=True)

    def write(self, commit: Commit, rows: Iterable[pa.Table]) -> None:
        """Appends the lines that a commit brought."""
        blank = {claim.state.source_id: claim for claim in decode_claims(commit.claims)}
        written: dict[str, int] = {source_id: claim.first_record for source_id, claim in blank.items()}
        for part in rows:
            for source_id, first, values in _runs(part):
                if first != written[source_id]:
                    raise ArchiveDamaged(
                        f"commit {commit.version}: offset {first} of {source_id} is out of order."
                    )
                after = first + len(values)
                gaps = blank[source_id].blank_before
                # Blank lines before this run's first record; those behind the last one come at the end.
                mine = gaps[(gaps >= first) & (gaps < after)] - first
                self._append(source_id, join(values, mine))
                written[source_id] = after
        for source_id, claim in blank.items():
            trailing = int((claim.blank_before >= claim.state.records).sum())
            self._append(source_id, b"\n" * trailing)

    def _append(self, source_id: str, data: bytes) -> None:
        with self._partial(source_id).open("ab") as file:
            file.write(data)

    def _partial(self, source_id: str) -> Path:
        target = self._folder / self._targets[source_id]
        return target.with_name(
            f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.{self._token}.partial"
        )

    def remove_partials(self) -> None:
        """Removes what was written and not finished."""
        for source_id in self._targets:
            self._partial(source_id).unlink(missing_ok=True)

    def finish(self) -> list[ReplayedFile]:
        replayed = []
        for source_id, state in self._final.items():
            partial = self._partial(source_id)
            if not state.terminated:
                os.truncate(partial, partial.stat().st_size - 1)
            digest = sha256_of(partial)
            sync(partial)
            target = self._folder / self._targets[source_id]
            os.link(partial, target)
            partial.unlink()
            replayed.append(
                ReplayedFile(
                    source_id=source_id,
                    path=str(target),
                    events=state.records,
                    bytes=target.stat().st_size,
                    sha256=digest,
                    is_identical=digest == state.sha256,
                )
            )
        return replayed


def _runs(rows: pa.Table) -> list[tuple[str, int, pa.BinaryArray]]:
    """Neighbouring rows of one source: its id, the first offset, the values."""
    rows = rows.combine_chunks().unify_dictionaries()
    if not rows.num_rows:
        return []
    source = rows["source_id"].chunk(0)
    values = rows["value"].chunk(0)
    offsets = rows["source_offset"].to_numpy()
    indices = source.indices.to_numpy()
    starts = np.concatenate([[0], np.flatnonzero((np.diff(indices) != 0) | (np.diff(offsets) != 1)) + 1])
    ends = np.concatenate([starts[1:], [rows.num_rows]])
    return [
        (
            source.dictionary[int(indices[start])].as_py(),
            int(offsets[start]),
            values.slice(start, end - start),
        )
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def target_paths(source_ids: list[str]) -> dict[str, str]:
    """A path, relative to the target folder, for each source; no two the same."""
    targets: dict[str, str] = {}
    names = {source_id: decode_source_id(source_id) for source_id in source_ids}
    # Folders first: in the course of time a name may have been a file's and a folder's.
    taken = {str(folder) for path, _ in names.values() for folder in PurePosixPath(path).parents}
    # A file that has its plain name keeps it; the others come after it.
    for source_id, (path, generation) in sorted(
        names.items(), key=lambda item: (_plain(item[1][0]) != item[1][0], item)
    ):
        if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise ArchiveDamaged(
                f"the archive names the source {source_id!r}, which is no path inside a folder."
            )
        stem, dot, extension = _plain(path).rpartition(".")
        if generation > 1:
            stem = f"{stem}.generation-{generation}"
        target, number = f"{stem}{dot}{extension}", 1
        while target in taken:
            number += 1
            target = f"{stem}.{number}{dot}{extension}"
        taken.add(target)
        targets[source_id] = target
    return targets


def _plain(path: str) -> str:
    return path.removesuffix(".gz").removesuffix(".zst")
