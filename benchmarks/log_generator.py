"""Makes tables whose logs are as long as those of years, without the years: the real commits, in memory, and sealed as they would be.

Per commit one data file with some events of each of 12 sources; each 1,440 commits are a day, and a day that has ended is compacted into one
file. Of the data files only those that the table still has are written, all with the same content: what is measured is the log.

What doesn't live here: measuring (`growth_figures`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from event_archive import layout, sealing
from event_archive.archive import commit as commit_module
from event_archive.archive.columns import column, string_column
from event_archive.archive.commit import (
    Batch,
    Head,
    Replacement,
    commit,
    commit_replacement,
    commit_seal,
    create_table,
)
from event_archive.archive.data_file import DataFileWriter, WrittenFile, with_commit
from event_archive.archive.log import Commit, DataFile, parse_entry
from event_archive.archive.row_digest import SpanDigest
from event_archive.archive.state import State, encode_state, state_names
from event_archive.envelope import EVENT_SCHEMA
from event_archive.sources.files.ingest import APPLICATION
from event_archive.sources.files.positions import UNREAD, Claim, encode_claims
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMITS_A_DAY = 1440
SOURCES = 12
EVENTS_A_SOURCE = 10
_NO_LINES = np.empty(0, np.int64)
_BEGAN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class _Kept(FolderStore):
    """Takes entries and keeps them in memory; everything else goes to the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.newest = b""

    def put_new(self, name: str, content: bytes) -> bool:
        """Takes an entry."""
        if name.startswith(layout.OWN_FOLDER) or name.endswith(".parquet"):
            return super().put_new(name, content)
        self.newest = content
        return True


class LogGenerator:
    """A table that grows by the commit."""

    def __init__(
        self, folder: Path, *, events_a_source: int = EVENTS_A_SOURCE, compacts: bool = True
    ) -> None:
        self._store = _Kept(folder)
        self._events_a_source = events_a_source
        self._compacts = compacts
        self._records = self._minutes = 0
        self._entries: list[bytes] = []
        self._commits: list[Commit] = []
        self._day: list[DataFile] = []
        self._state: State | None = None
        self._template = self._write_template(folder)
        self._head = create_table(self._store, description="made")
        self._keep()

    @property
    def commits(self) -> int:
        """Number of entries so far."""
        return self._head.version + 1

    def grow(self, commits: int, *, on_progress: Callable[[int], None] | None = None) -> None:
        """Commits until the log has so many entries."""
        while self.commits < commits:
            self._commit()
            if self._compacts and len(self._day) == COMMITS_A_DAY:
                self._compact()
            if len(self._entries) >= sealing.SEAL_COMMITS:
                self._seal()
                if on_progress is not None:
                    on_progress(self.commits)

    def finish(self) -> None:
        """Writes what a table of this length has on the disk: entries since the last seal but one, data files, the newest state and checkpoint."""
        for commit_, entry in zip(self._commits, self._entries, strict=True):
            path = self._store.path(layout.entry_name(commit_.version))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry)
        files = {file.path: file for file in self._state.files} if self._state else {}
        for commit_ in self._commits:
            for path_ in commit_.removed:
                files.pop(path_, None)
            files.update((file.path, file) for file in commit_.added)
        for name in files:
            path = self._store.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._template, path)
        self._template.unlink()

    def _time(self) -> dt.datetime:
        return _BEGAN + dt.timedelta(minutes=self._minutes)

    def _commit(self) -> None:
        version = self._head.version + 1
        time = self._time()
        self._minutes += 1
        first, self._records = self._records, self._records + self._events_a_source
        state = {name: getattr(UNREAD, name) for name in UNREAD.__dataclass_fields__}
        claims = [
            Claim(
                first,
                type(UNREAD)(
                    **{
                        **state,
                        "source_id": f"file:{number}.jsonl",
                        "records": self._records,
                        "position_bytes": self._records * 200,
                        "sha256": hashlib.sha256(b"%d %d" % (version, number)).hexdigest(),
                        "size_bytes": self._records * 200,
                    }
                ),
                _NO_LINES,
            )
            for number in range(SOURCES)
        ]
        events = SOURCES * self._events_a_source
        name = layout.data_file_name(
            time.date(), version, hashlib.md5(b"%d" % version, usedforsecurity=False).hexdigest()
        )
        file = self._file(
            name, events, version, [hashlib.sha256(b"%d" % version).hexdigest()] * SOURCES, time
        )
        batch = Batch(file, events * 200, encode_claims(claims), {APPLICATION: SOURCES * self._records})
        self._head = commit(self._store, self._head, batch, ingested_at=time)
        self._day += self._keep().added

    def _compact(self) -> None:
        inputs, self._day = tuple(self._day), []
        version = self._head.version + 1
        name = layout.compacted_file_name(layout.ingest_date_of(inputs[0].path), f"{version:032x}")
        spans = [""] * (SOURCES * len(inputs))
        output = self._file(
            name,
            sum(file.num_records for file in inputs),
            version,
            spans,
            self._time() - dt.timedelta(minutes=1),
        )
        with patch.object(commit_module, "_now", self._time):  # else its files count as just removed
            self._head = commit_replacement(self._store, self._head, Replacement(inputs, (output,)))
        self._keep()

    def _file(
        self, name: str, events: int, version: int, digests: list[str], time: dt.datetime
    ) -> WrittenFile:
        bounds: dict[str, Any] = {
            "source_partition": 0,
            "source_offset": self._records,
            "ingested_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "commit_version": version,
        }
        return WrittenFile(
            path=name,
            size_bytes=self._template.stat().st_size,
            sha256=self._template_sha256,
            num_records=events,
            stats={
                "numRecords": events,
                "minValues": bounds,
                "maxValues": bounds,
                "nullCount": dict.fromkeys(EVENT_SCHEMA.names, 0),
            },
            digests=tuple(SpanDigest("", 0, self._events_a_source, digest) for digest in digests),
            row_groups=(events,),
        )

    def _keep(self) -> Commit:
        entry = self._store.newest
        kept, _ = parse_entry(self._head.version, entry)
        self._entries.append(entry)
        self._commits.append(kept)
        return kept

    def _seal(self) -> None:
        fold = sealing.Fold(self._state)
        for commit_, entry in zip(self._commits, self._entries, strict=True):
            fold.note(commit_, entry)
        segment = sealing._put_segment(self._store, fold.version, self._entries)  # noqa: SLF001
        before, self._state = self._state, fold.state([segment])
        content = encode_state(self._state)
        digest = hashlib.sha256(content).hexdigest()
        name = layout.state_name(self._state.version, digest)
        self._store.put_new(name, content)
        if before is not None:
            for version, old in state_names(self._store):
                if version < before.version:
                    self._store.delete(old)
        self._entries, self._commits = [], []
        fact = {
            "segments": [
                {"first": segment.first, "last": segment.last, "name": segment.name, "sha256": segment.sha256}
            ],
            "state": name,
            "stateSha256": digest,
            "checkpoint": layout.checkpoint_name(self._state.version),
            "checkpointSha256": "",
        }
        self._head = commit_seal(self._store, Head(self._state.version, self._state.entry_sha256), fact)
        self._keep()

    def _write_template(self, folder: Path) -> Path:
        writer = DataFileWriter(FolderStore(folder), "template.parquet")
        count = SOURCES * self._events_a_source
        rows = pa.table(
            [
                string_column([f"file:{n % SOURCES}.jsonl" for n in range(count)]).dictionary_encode(),
                column(pa.int32(), np.zeros(count, np.int32)),
                column(pa.int64(), np.arange(count)),
                *(
                    pa.nulls(count, EVENT_SCHEMA.field(n).type)
                    for n in ("event_time", "timestamp_ms", "timestamp_type", "key")
                ),
                string_column(["{}"] * count).cast(pa.binary()),
                pa.nulls(count, EVENT_SCHEMA.field("headers").type),
            ],
            names=EVENT_SCHEMA.names[:9],
        )
        writer.write_row_group(with_commit(rows, 0, _BEGAN))
        written = writer.finish()
        self._template_sha256 = written.sha256
        return folder / written.path
