"""A small archive with all that an archive can have, to be damaged, and what is known of it without asking its own code.

It has several commits from files that grow, two seals (segments, states, checkpoints, a pointer; the first entries have left the
log folder), files that compaction made, and some that it replaced and that still lie there. What doesn't live here: the damage (`rows.damaged`).
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.compaction.days import compact_stream
from event_archive.config import load_config
from event_archive.heads.head import StreamHead, contains_head, read_head
from event_archive.ingest import ingest_stream
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore
from event_archive.verify import VerifyReport, verify_table

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.config import Config

STREAM = "events"
KINDS = ("data", "entry", "segment", "state", "checkpoint", "pointer")
_FILES = 5
_COMMIT_BYTES = 3000


@dataclass(frozen=True)
class DamagedTable:
    """A table, its files by kind, and a spare copy of it."""

    folder: Path
    """Of the table."""
    spare: Path
    files: dict[str, list[str]]
    """Names by kind."""
    held: dict[str, list[str]]
    """By data file, its events as a person would say it: `file:0.jsonl 0 to 99`, in order."""
    replaced: frozenset[str]
    head: StreamHead

    def path(self, name: str) -> Path:
        """Path of a file."""
        return self.folder / name

    def verify(self) -> VerifyReport:
        """What `verify` says."""
        return verify_table(FolderStore(self.folder))

    def lost_head(self) -> str | None:
        """What `verify --head` says with the head that was kept before any damage."""
        return contains_head(FolderStore(self.folder), self.head)

    def restore(self, *names: str) -> None:
        """Brings files back from the spare copy, with their times."""
        for name in names:
            path = self.path(name)
            if path.is_dir():
                path.rmdir()
            shutil.copy2(self.spare / name, path)


def make_table(folder: Path, *, is_old: bool) -> DamagedTable:
    """Makes one in an empty folder.

    Args:
        folder: for the project.
        is_old: with seals and compaction; otherwise commits only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"source": {"type": "files", "path": "landing"}, "commit_bytes": _COMMIT_BYTES}
    document = {"archive": "archive", "warehouse": "warehouse", "streams": {STREAM: settings}}
    (folder / "event_archive.yaml").write_text(json.dumps(document))  # JSON is YAML
    config = load_config(folder / "event_archive.yaml")
    store = config.table(STREAM)
    replaced: set[str] = set()
    for round_ in range(4):
        _grow(folder / "landing", round_)
        ingest_stream(config, STREAM, settled=True)
        if not is_old:
            continue
        if round_ in (0, 2):
            before = {name for name, _ in _data_files(folder)}
            _compact(config)
            replaced |= before
        if round_ in (1, 2):
            seal(store, at_least=2)
    table = folder / "archive" / STREAM
    spare = folder / "spare"
    shutil.copytree(table, spare)
    files: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(path for path in table.rglob("*") if path.is_file()):
        name = path.relative_to(table).as_posix()
        if name not in replaced:
            files[_kind(name)].append(name)
    held = {name: _events(path) for name, path in _data_files(folder)}
    return DamagedTable(table, spare, files, held, frozenset(replaced), read_head(store))


def _compact(config: Config) -> None:
    """As if today were over."""
    compact_stream(config, STREAM, until=dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1))


def _grow(landing: Path, round_: int) -> None:
    landing.mkdir(exist_ok=True)
    for number in range(_FILES):
        with (landing / f"{number}.jsonl").open("ab") as file:
            for line in range(60 + 7 * number):
                file.write(b'{"round": %d, "line": %d, "of": %d}\n' % (round_, line, number))


def _data_files(folder: Path) -> list[tuple[str, Path]]:
    table = folder / "archive" / STREAM
    return [
        (path.relative_to(table).as_posix(), path) for path in sorted(table.glob("ingest_date=*/*.parquet"))
    ]


def _events(path: Path) -> list[str]:
    with path.open("rb") as file:
        rows = pq.ParquetFile(file).read(columns=["source_id", "source_offset"])
    names = rows["source_id"].cast("string")
    told = []
    for name in dict.fromkeys(names.to_pylist()):
        offsets = rows["source_offset"].filter(pc.equal(names, name)).to_pylist()
        told.append(f"{name} {min(offsets)} to {max(offsets)}")
    return told


def _kind(name: str) -> str:
    folder, _, last = name.rpartition("/")
    if name == layout.LAST_CHECKPOINT:
        return "pointer"
    if folder == layout.LOG_FOLDER:
        return "entry" if layout.entry_version(last) is not None else "checkpoint"
    if folder == layout.OWN_FOLDER:
        return "segment" if layout.segment_range(last) else "state"
    return "data"
