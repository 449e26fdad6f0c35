"""`copy` into a new archive and `repair` from one, as operations that are interrupted at each call.

What doesn't live here: interrupting them (`points`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.crash.archived import STREAM, check_archive, config, newest_acknowledged, snapshot
from campaign.crash.ingesting import land_and_ingest
from campaign.crash.keeping import prepare_archive
from campaign.crash.operations import Acknowledge, After, Fact, Operation
from campaign.truth import TruthFailed
from event_archive.copying import copy_stream
from event_archive.errors import ArchiveDamaged
from event_archive.repair.stream import repair_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_COPY = "copy"
_DAMAGED = "damaged"


def _copy(folder: Path, acknowledge: Acknowledge) -> None:
    result = copy_stream(config(folder).table(STREAM), config(folder, _COPY).table(STREAM))
    acknowledge({"version": result.version})


def _prepare_copy(folder: Path) -> None:
    prepare_archive(folder)
    config(folder, _COPY)


def _prepare_copy_again(folder: Path) -> None:
    _prepare_copy(folder)
    _copy(folder, lambda _: None)
    land_and_ingest(folder, ["1.jsonl", "7.jsonl"], seed=4)


def _check_copied(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    version = max((fact["version"] for fact in acknowledged), default=-1)
    if after != "a crash" and snapshot(folder, _COPY).chain_hash != snapshot(folder).chain_hash:
        raise TruthFailed("the copy is another archive")
    if after == "recovery":
        again = copy_stream(config(folder).table(STREAM), config(folder, _COPY).table(STREAM))
        if again.commits or again.bytes:
            raise TruthFailed(f"a copy of what is copied moves {again.bytes} bytes")
    # A copy that has not come to its first commit is no archive yet: it may have files and no log.
    compared = 0
    is_under_way = after == "a crash" and not acknowledged
    if is_under_way and _is_refused(folder):
        pass  # its segments are ahead of its log: it opens once it was copied to its end
    elif snapshot(folder, _COPY).version >= 0 or version >= 0:
        compared = check_archive(
            folder,
            acknowledged=version,
            after=after,
            archive=_COPY,
            may_lack=is_under_way,
            is_copy=is_under_way,
        )
    return compared + check_archive(folder, acknowledged=newest_acknowledged(folder, ()), after=after)


def _is_refused(folder: Path) -> bool:
    try:
        snapshot(folder, _COPY)
    except ArchiveDamaged as error:
        return "a copy that hasn't ended" in str(error)
    return False


def _prepare_repair(folder: Path) -> None:
    _prepare_copy(folder)
    _copy(folder, lambda _: None)
    table = folder / "archive" / STREAM
    missing, flipped, *_ = sorted(table.glob("ingest_date=*/*.parquet"))
    missing.unlink()
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    sorted((table / "_delta_log").glob("[0-9]*.json"))[-2].write_bytes(b"")
    (table / "_delta_log" / "_last_checkpoint").unlink()
    for name, damaged in _files(folder / "archive").items():
        path = folder / _DAMAGED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged)


def _repair(folder: Path, acknowledge: Acknowledge) -> None:
    table, other = config(folder).table(STREAM), config(folder, _COPY).table(STREAM)
    report = repair_stream(table, other=other)
    if not report.is_whole:
        raise TruthFailed(f"not repaired: {'; '.join(map(str, report.items))}")
    acknowledge({"version": report.version})


def _check_repaired(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    whole, damaged, now = (_files(folder / name) for name in (_COPY, _DAMAGED, "archive"))
    is_done = bool(acknowledged) or after != "a crash"
    for name, content in whole.items():
        allowed = (content,) if is_done else (content, damaged.get(name))
        if now.get(name) not in allowed:
            raise TruthFailed(f"{name} is neither as it was damaged nor as it should be")
    if not is_done:
        return 0
    return check_archive(folder, acknowledged=newest_acknowledged(folder, acknowledged), after=after)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


OPERATIONS = (
    Operation("copy", _prepare_copy, _copy, _check_copied),
    Operation("copy-again", _prepare_copy_again, _copy, _check_copied),
    Operation("repair", _prepare_repair, _repair, _check_repaired),
)
