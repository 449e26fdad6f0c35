"""What keeps an archive small and quick, `compact`, sealing and `clean`, as operations that are interrupted at each call.

None of them may lose anything at any moment: all events must be there after a crash too. What doesn't live here: interrupting them
(`points`).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from campaign.crash.archived import (
    LONG,
    STREAM,
    check_archive,
    config,
    configure,
    newest_acknowledged,
    note_prepared,
    snapshot,
)
from campaign.crash.ingesting import land_and_ingest
from campaign.crash.operations import Acknowledge, After, Fact, Operation
from campaign.truth import TruthFailed
from event_archive.clean import clean_stream
from event_archive.compaction.days import compact_stream
from event_archive.sealing import seal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TARGET_BYTES = 24_000
_A_DAY = dt.timedelta(days=1)
_SEAL_AT_LEAST = 2


def prepare_archive(folder: Path) -> None:
    """An archive of some small files, whose oldest entries are sealed twice over."""
    configure(folder)
    land_and_ingest(folder, ["1.jsonl", "2.jsonl", "3.jsonl", "4.jsonl"], seed=1)
    seal(config(folder).table(STREAM), at_least=_SEAL_AT_LEAST)
    land_and_ingest(folder, ["1.jsonl", "2.jsonl", "5.jsonl"], seed=2)
    seal(config(folder).table(STREAM), at_least=_SEAL_AT_LEAST)
    land_and_ingest(folder, ["1.jsonl", "3.jsonl", "6.jsonl"], seed=3)
    note_prepared(folder)


def compact(folder: Path, acknowledge: Acknowledge) -> None:
    """Merges all files, those of today too."""
    until = dt.datetime.now(dt.UTC).date() + _A_DAY
    result = compact_stream(config(folder), STREAM, target_bytes=_TARGET_BYTES, until=until)
    acknowledge({"version": result.version, "files": result.files})


def _check_compacted(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    if after != "a crash":
        files = snapshot(folder).files
        if 2 * max(file.size_bytes for file in files) < _TARGET_BYTES or any(
            "compacted" not in f.path for f in files
        ):
            raise TruthFailed(f"not compacted: {[(file.path, file.size_bytes) for file in files]}")
    return _check(folder, acknowledged, after)


def _seal(folder: Path, acknowledge: Acknowledge) -> None:
    table = config(folder).table(STREAM)
    seal(table, at_least=_SEAL_AT_LEAST)
    acknowledge({"version": snapshot(folder).version})


def _check_sealed(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    if after != "a crash" and seal(config(folder).table(STREAM), at_least=_SEAL_AT_LEAST):
        raise TruthFailed("not sealed")
    return _check(folder, acknowledged, after)


def _prepare_clean(folder: Path) -> None:
    prepare_archive(folder)
    compact(folder, lambda _: None)
    note_prepared(folder)
    table = folder / "archive" / STREAM
    left = next(table.glob("ingest_date=*")) / f"commit-{1:020d}-{'0' * 32}.parquet"
    for path in (left, table / "_delta_log" / f"_commit_{'0' * 32}.json.tmp"):
        path.write_bytes(b"half of it")


def _clean(folder: Path, acknowledge: Acknowledge) -> None:
    clean_stream(config(folder), STREAM, now=dt.datetime.now(dt.UTC) + LONG)
    acknowledge({"version": snapshot(folder).version})


def _check_clean(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    if after != "a crash":
        left = clean_stream(config(folder), STREAM, now=dt.datetime.now(dt.UTC) + LONG, dry_run=True).removed
        if left:
            raise TruthFailed(f"not cleaned: {', '.join(file.name for file in left)}")
    return _check(folder, acknowledged, after)


def _check(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    return check_archive(folder, acknowledged=newest_acknowledged(folder, acknowledged), after=after)


OPERATIONS = (
    Operation("compact", prepare_archive, compact, _check_compacted),
    Operation("seal", prepare_archive, _seal, _check_sealed),
    Operation("clean", _prepare_clean, _clean, _check_clean),
)
