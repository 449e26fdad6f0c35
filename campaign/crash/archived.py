"""Whether an archive is in order after a crash: held against its landing folder, proved, cleaned, and read by `deltalake`.

What doesn't live here: what the archive's own code makes of a landing folder; lines are split here by hand.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from campaign.archive_record import ArchiveRecord, compare
from campaign.truth import Record, TruthFailed, record_digest
from event_archive.archive.snapshot import read_snapshot
from event_archive.clean import clean_stream
from event_archive.config import Config, load_config
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from campaign.crash.operations import After, Fact
    from event_archive.archive.snapshot import Snapshot

STREAM = "events"
ARCHIVE = "archive"
LONG = dt.timedelta(days=30)
"""After which `clean` removes all that it may."""
_NO_TIMESTAMP = (0, -1)
_PREPARED = "prepared.json"
_UNFINISHED = ("its newest entries were cut off", "where Delta's readers need it")


def configure(folder: Path) -> None:
    """Writes the configuration of a project with one stream, whose files are split into several commits."""
    stream = {"source": {"type": "files", "path": "landing"}, "commit_bytes": 4096}
    _write_configuration(folder, ARCHIVE, {STREAM: stream})


def _write_configuration(folder: Path, archive: str, streams: dict[str, object]) -> None:
    document = {"archive": archive, "warehouse": "warehouse", "streams": streams}
    (folder / f"{archive}.yaml").write_text(json.dumps(document))  # JSON is YAML


def config(folder: Path, archive: str = ARCHIVE) -> Config:
    """The configuration of an archive in the folder; that of a copy of it is like the first one's."""
    file = folder / f"{archive}.yaml"
    if not file.exists():
        first = json.loads((folder / f"{ARCHIVE}.yaml").read_text())
        _write_configuration(folder, archive, first["streams"])
    return load_config(file)


def note_prepared(folder: Path) -> None:
    """Remembers that the archive as it is now must never be lost."""
    (folder / _PREPARED).write_text(json.dumps({"version": snapshot(folder).version}))


def snapshot(folder: Path, archive: str = ARCHIVE) -> Snapshot:
    """What the table is now."""
    return read_snapshot(config(folder, archive).table(STREAM))


def newest_acknowledged(folder: Path, acknowledged: Sequence[Fact]) -> int:
    """The newest version that was said to be there, also before the operation; -1 if none was."""
    prepared = folder / _PREPARED
    before = [json.loads(prepared.read_text())] if prepared.exists() else []
    return max((fact["version"] for fact in (*before, *acknowledged)), default=-1)


def check_archive(
    folder: Path,
    *,
    acknowledged: int,
    after: After,
    archive: str = ARCHIVE,
    may_lack: bool = False,
    is_copy: bool = False,
) -> int:
    """Holds an archive against the landing folder.

    Args:
        folder: of the project.
        acknowledged: newest version that was said to be there.
        after: what; after a recovery, all that `clean` may remove is removed, and the rest looked at again.
        archive: which of the folder's archives.
        may_lack: whether it need not have all that has landed, as a prefix of each file.
        is_copy: whether it is a copy that was interrupted: it may have files of commits that will come, which looks to `verify` as if
            they had been cut off, and no checkpoint yet, without which `deltalake` can't go on behind sealed entries.

    Returns:
        How many events were compared.

    Raises:
        TruthFailed: something is lost, doubled, changed, damaged or left over.
    """
    _prove(folder, archive, acknowledged, is_copy=is_copy)
    held = _read(snapshot(folder, archive), is_copy=is_copy)
    landed = {source_id: {0: record} for source_id, record in _landed_records(folder / "landing")}
    expected = _as_far_as(landed, held.sources) if may_lack else landed
    comparison = compare(expected, held)
    if not comparison.is_same:
        raise TruthFailed(f"the archive is not what has landed: {comparison}")
    if after == "recovery":
        _clean(folder, archive, acknowledged)
    return comparison.events


def _prove(folder: Path, archive: str, acknowledged: int, *, is_copy: bool = False) -> tuple[str, ...]:
    """Runs `verify`; returns the files that it knows to be of no use."""
    proof = verify_stream(config(folder, archive), STREAM)
    damages = [
        str(damage)
        for damage in proof.damages
        if not (is_copy and any(reason in damage.reason for reason in _UNFINISHED))
    ]
    if damages:
        raise TruthFailed(f"verify: {'; '.join(damages)}")
    if proof.version < acknowledged:
        raise TruthFailed(f"version {acknowledged} was acknowledged, and the archive ends at {proof.version}")
    return (*proof.unreferenced, *proof.replaced)


def _read(pinned: Snapshot, *, is_copy: bool = False) -> ArchiveRecord:
    """The events of all files; `deltalake` must list the same files, at the same version and with the same counts."""
    found = ArchiveRecord()
    if pinned.version < 0:
        return found
    try:
        delta = DeltaTable(pinned.table.url)
    except TableNotFoundError:
        if is_copy:
            delta = None
        else:
            raise
    files = pinned.file_paths()
    if delta and (delta.version() != pinned.version or sorted(delta.file_uris()) != sorted(files)):
        raise TruthFailed(
            f"deltalake lists other files at {delta.version()} than the log at {pinned.version}"
        )
    for uri in files:
        with Path(uri).open("rb") as file:  # by path pyarrow would read the folder's name as a column
            rows = pq.ParquetFile(file).read(columns=["source_id", "source_offset", "value"]).to_pylist()
        for row in rows:
            record = found.sources.setdefault(row["source_id"], {}).setdefault(0, {})
            offset = row["source_offset"]
            if offset in record:
                found.doubled.append(f"{row['source_id']} offset {offset}")
            record[offset] = _digest(offset, row["value"])
            found.rows += 1
    counted = sum(delta.get_add_actions().column("num_records").to_pylist()) if delta else found.rows
    if counted != found.rows:
        raise TruthFailed(f"deltalake counts {counted} events, the files hold {found.rows}")
    return found


def _landed_records(landing: Path) -> Iterator[tuple[str, Record]]:
    for path in sorted(landing.rglob("*.jsonl")):
        lines = path.read_bytes().split(b"\n")[:-1]
        record = {offset: _digest(offset, line) for offset, line in enumerate(lines)}
        yield f"file:{path.relative_to(landing).as_posix()}", record


def _digest(offset: int, value: bytes) -> bytes:
    return record_digest(offset, None, value, None, _NO_TIMESTAMP)


def _as_far_as(
    landed: dict[str, dict[int, Record]], held: dict[str, dict[int, Record]]
) -> dict[str, dict[int, Record]]:
    """The first events of each source, as many as the archive has of it."""
    return {
        source_id: {0: {offset: landed[source_id][0][offset] for offset in range(len(partitions[0]))}}
        for source_id, partitions in held.items()
        if source_id in landed and len(partitions[0]) <= len(landed[source_id][0])
    }


def _clean(folder: Path, archive: str, acknowledged: int) -> None:
    """All that a crash leaves must be what `clean` removes, and nothing else may go with it."""
    before = snapshot(folder, archive)
    cleaned = clean_stream(config(folder, archive), STREAM, now=dt.datetime.now(dt.UTC) + LONG)
    if strange := (*cleaned.foreign, *cleaned.problems):
        raise TruthFailed(f"left over, and clean doesn't know it: {', '.join(strange)}")
    if left := _prove(folder, archive, acknowledged):
        raise TruthFailed(f"clean leaves what is of no use: {', '.join(left)}")
    now = snapshot(folder, archive)
    _read(now)
    if (now.chain_hash, now.files) != (before.chain_hash, before.files):
        raise TruthFailed("clean has changed the table")
