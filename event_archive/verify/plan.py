"""Which data files there are to read, and what each must hold: a second walk over the log that is known to be whole by now.

What doesn't live here: reading them (`rows`), choosing among them (`scope`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from event_archive import layout
from event_archive.verify.findings import Findings
from event_archive.verify.held import HeldSpans, PendingSpans, joined, spans_of
from event_archive.verify.walk import UNREADABLE, LogWalk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from event_archive.archive.log import Commit, DataFile
    from event_archive.storage.store import Store


@dataclass(frozen=True, slots=True)
class FileTask:
    """A data file that is part of the table, and what the log says of it."""

    file: DataFile
    entry_sha256: str
    """Of the commit that brought it."""
    held: HeldSpans | None
    """What it must hold; None if that can't be told, since entries are lost or contradict each other."""
    row_groups: tuple[int, ...]
    """Rows of each of its row groups, as far as the log tells."""

    @property
    def affected(self) -> str:
        """Its events, in words."""
        return "its events" if self.held is None else self.held.affected()


class FilePlan:
    """Goes over the files of a table once, in the order of the commits that brought them."""

    def __init__(self, table: Store, findings: Findings, *, until: int, active: dict[str, DataFile]) -> None:
        """Looks at nothing yet.

        Args:
            table: the table.
            findings: takes what commits of compaction say wrongly.
            until: the newest version that was proved.
            active: by path, the files that are part of the table then.
        """
        self._table = table
        self._findings = findings
        self._until = until
        self._active = active
        self._pending = PendingSpans()

    def tasks(self, wanted: AbstractSet[str], left_over: set[str]) -> Iterator[FileTask]:
        """The files with a path in `wanted`, each once; paths that were replaced are taken out of `left_over`."""
        untold = set(wanted)
        try:
            walk = LogWalk(self._table, Findings(self._table), until=self._until)
            for link in walk.links():
                left_over.difference_update(link.commit.removed)
                for task in self._files(link.commit):
                    if self._is_active(link.commit, task.file.path):
                        if task.file.path in untold:
                            untold.discard(task.file.path)
                            yield task
                    elif task.held is not None:
                        self._pending.put(task.file.path, task.held)
        finally:
            self._pending.close()
        for path in sorted(untold):  # brought by entries that are lost
            yield FileTask(self._active[path], "", None, ())

    def _is_active(self, commit: Commit, path: str) -> bool:
        file = self._active.get(path)
        return file is not None and file.commit_version == commit.version

    def _files(self, commit: Commit) -> Iterator[FileTask]:
        if commit.compacted is not None:
            yield from self._outputs(commit)
            return
        for file in commit.added:
            held: HeldSpans | None = None
            with contextlib.suppress(*UNREADABLE):  # the ledger has said so
                held = spans_of(commit)
            if held is not None and held.events != file.num_records:
                held = None  # that, too
            yield FileTask(file, commit.entry_sha256, held, commit.row_groups)

    def _outputs(self, commit: Commit) -> Iterator[FileTask]:
        """What the files of a compaction hold: the spans of its inputs, sorted and dealt out."""
        compacted = commit.compacted
        assert compacted is not None  # noqa: S101 - for the type checker
        files = {file.path: file for file in commit.added}
        inputs = [self._pending.take(path) for path in compacted.inputs]
        known = [held for held in inputs if held is not None]
        all_spans = joined(known).sorted_by_place() if len(known) == len(inputs) else None
        fault = ""
        if set(compacted.inputs) != set(commit.removed) or {path for path, _ in compacted.outputs} != set(
            files
        ):
            fault = "replaces other files than it says"
        elif all_spans is not None and sum(count for _, count in compacted.outputs) != len(all_spans):
            fault = "replaces files by others with fewer or more stretches of events"
        elif len({layout.ingest_date_of(path) for path in (*compacted.inputs, *files)}) > 1:
            fault = "puts events into another partition"
        if fault:
            affected = all_spans.affected() if all_spans is not None else ""
            self._findings.entry(commit.version, fault, affected)
            all_spans = None
        at = 0
        listed = dict(compacted.outputs)
        for path in files.keys() - listed.keys():
            yield FileTask(files[path], commit.entry_sha256, None, ())
        for path, count in listed.items():
            if path not in files:
                continue
            held = None if all_spans is None else all_spans.taken(np.arange(at, at + count))
            at += count
            if held is not None and held.events != files[path].num_records:
                self._findings.entry(
                    commit.version,
                    f"says that {path} has {files[path].num_records} rows, but its stretches have {held.events}",
                    held.affected(),
                )
                held = None
            yield FileTask(files[path], commit.entry_sha256, held, ())
