"""Row 13: an archive is damaged in every way, and `verify` must name each damaged file and what is affected, or prove it harmless.

What doesn't live here: the archive that is damaged (`campaign.damaged_table`).
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from campaign.damaged_table import KINDS, DamagedTable, make_table
from campaign.truth import TruthFailed
from event_archive import layout
from event_archive.archive.log import seal_entry

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from campaign.report import RowReport
    from campaign.world import Campaign
    from event_archive.verify import VerifyReport

_SHOWN = 5
_AGED_SECONDS = 60 * 86_400
_OUTSIDE = (
    "../../outside.parquet",
    "/etc/passwd",
    "a/%2e%2e/%2e%2e/b.parquet",
    "file:///etc/passwd",
    "s3://other/b",
)


def flip(campaign: Campaign, row: RowReport) -> None:
    """Single bits, at random places of files of every kind, each kind as often.

    Raises:
        TruthFailed: one was not found.
    """
    chance = campaign.random(row)
    for table, count in zip(_tables(campaign, row, "flips"), _halves(campaign.settings.flips), strict=True):
        kinds = [kind for kind in KINDS if table.files[kind]]
        for number in range(count):
            kind = kinds[number % len(kinds)]
            name = chance.choice(table.files[kind])
            content = bytearray(table.path(name).read_bytes())
            place, bit = chance.randrange(len(content)), chance.randrange(8)
            content[place] ^= 1 << bit
            _overwrite(table, name, bytes(content))
            expect_named(table, row, table.verify(), name, f"bit {bit} of byte {place} of {name} was flipped")
            table.restore(name)
            row.done[f"bits flipped, {_of(table)}, {kind}"] += 1
        expect_whole(table, row, "every bit was flipped back")


def mangle(campaign: Campaign, row: RowReport) -> None:
    """Whole files: cut, lengthened, emptied, dropped, swapped, replaced by an older one.

    Raises:
        TruthFailed: something was not found.
    """
    chance = campaign.random(row)
    for table in _tables(campaign, row, "mangled"):
        for _ in range(campaign.settings.rounds):
            for kind in KINDS:
                for name in table.files[kind] and [chance.choice(table.files[kind])]:
                    _mangle(table, row, kind, name, chance)
        expect_whole(table, row, "every file was brought back")


def _mangle(table: DamagedTable, row: RowReport, kind: str, name: str, chance: random.Random) -> None:
    content = table.path(name).read_bytes()
    cut = chance.randrange(1, len(content))
    for what, changed in (
        ("cut", content[:cut]),
        ("emptied", b""),
        ("lengthened", content + chance.randbytes(chance.randrange(1, 50))),
    ):
        _overwrite(table, name, changed)
        expect_named(table, row, table.verify(), name, f"{name} was {what}")
        row.done[f"files {what}, {_of(table)}, {kind}"] += 1
        table.restore(name)
    table.path(name).unlink()
    if kind == "entry" and name == max(table.files["entry"]):
        expect_cut(table, row, [name])
    elif kind in {"state", "checkpoint"} and name != max(table.files[kind]):
        expect_whole(table, row, f"{name} was dropped, which is not the newest and which nobody needs")
    elif kind == "pointer":
        expect_whole(table, row, f"{name} was dropped, which Delta's readers do without")
    else:
        expect_named(table, row, table.verify(), name, f"{name} was dropped")
    row.done[f"files dropped, {_of(table)}, {kind}"] += 1
    table.restore(name)
    others = [other for other in table.files[kind] if other != name]
    if others:
        other = chance.choice(others)
        _overwrite(table, name, table.path(other).read_bytes())
        expect_named(table, row, table.verify(), name, f"{name} was replaced by {other}")
        _overwrite(table, other, content)
        report = table.verify()
        for one in (name, other):
            expect_named(table, row, report, one, f"{name} and {other} were swapped")
        row.done[f"files swapped, {_of(table)}, {kind}"] += 1
        table.restore(name, other)


def cut_off(campaign: Campaign, row: RowReport) -> None:
    """The newest entries are dropped, with and without the data files that they brought: seen with a head.

    Raises:
        TruthFailed: it was not found.
    """
    for table in _tables(campaign, row, "cut"):
        entries = sorted(table.files["entry"])
        for count in range(1, min(len(entries), 6)):
            dropped = entries[-count:]
            versions = {layout.entry_version(name.rpartition("/")[2]) for name in dropped}
            brought = [name for name in table.held if layout.data_file_version(name) in versions]
            for files in ([], brought):
                for name in [*dropped, *files]:
                    table.path(name).unlink()
                expect_cut(table, row, dropped)
                if any(version is not None and version <= _newest_sealed(table) for version in versions):
                    expect_named(
                        table, row, table.verify(), dropped[0], f"{dropped} were dropped, which are sealed"
                    )
                table.restore(*dropped, *files)
                row.done["newest entries dropped" + (", and their data files" if files else "")] += 1
        expect_whole(table, row, "all entries were brought back")
        if table.lost_head() is not None:
            raise TruthFailed(f"the head is said to be lost, and it is there: {table.lost_head()}")


def forge(campaign: Campaign, row: RowReport) -> None:
    """Entries are edited and their own checksum is made right; one leads outside of the table.

    Raises:
        TruthFailed: it was not found.
    """
    for table in _tables(campaign, row, "forged"):
        newest = max(table.files["entry"])
        for name in table.files["entry"]:
            for what, edit in (("an earlier time", _edit_time), ("other positions", _edit_positions)):
                if not _edit(table, name, edit):
                    continue
                if name == newest:
                    _expect(
                        table.lost_head() is not None, row, f"{name} was edited: {what}; its head is gone"
                    )
                else:
                    expect_named(table, row, table.verify(), name, f"{name} was edited: {what}")
                row.done["entries edited, with a checksum that is right"] += 1
                table.restore(name)
        for outside in _OUTSIDE:
            name = next(n for n in reversed(table.files["entry"]) if b'"add"' in table.path(n).read_bytes())
            _edit(table, name, functools.partial(_edit_path, path=outside))
            expect_named(table, row, table.verify(), name, f"{name} names {outside}")
            row.done["entries that lead outside of the table"] += 1
            table.restore(name)
        expect_whole(table, row, "all entries were brought back")


def age(campaign: Campaign, row: RowReport) -> None:
    """60 days go by, another writer makes a checkpoint and cleans up; files appear that belong to no commit.

    Raises:
        TruthFailed: something has expired, or something harmless is called damage.
    """
    for table in _tables(campaign, row, "aged"):
        for path in table.folder.rglob("*"):
            if path.is_file():
                then = time.time() - _AGED_SECONDS
                os.utime(path, (then, then))
        before = {path for path in table.folder.rglob("*") if path.is_file()}
        other = DeltaTable(table.folder)
        other.create_checkpoint()
        other.cleanup_metadata()
        after = {path for path in table.folder.rglob("*") if path.is_file()}
        _expect(before <= after, row, f"nothing has expired: {sorted(map(str, before - after))}")
        row.done["days gone by before another writer's checkpoint and cleaning up: 60"] += 1
        report = expect_whole(table, row, "another writer made a checkpoint")
        _expect(any("not made by a seal" in note for note in report.notes), row, "the checkpoint is told of")
        for path in after - before:
            path.unlink()
        if table.files["pointer"]:
            table.restore(*table.files["pointer"])
        data = next(iter(table.held))
        for extra in (data.replace(".parquet", "0.parquet"), "ingest_date=2020-01-01/x.parquet", "notes.txt"):
            table.path(extra).parent.mkdir(exist_ok=True)
            shutil.copy(table.path(data), table.path(extra))
            report = expect_whole(table, row, f"{extra} belongs to no commit")
            _expect(
                any(path.endswith(extra) for path in report.unreferenced),
                row,
                f"{extra} is told of as harmless",
            )
            table.path(extra).unlink()
            row.done["files that belong to no commit"] += 1
        for name in table.replaced:
            _overwrite(table, name, b"anything")
            report = expect_whole(table, row, f"{name} was replaced by compaction and isn't needed")
            _expect(
                any(path.endswith(name) for path in report.replaced), row, f"{name} is told of as replaced"
            )
            table.restore(name)
            row.done["damaged files that compaction had replaced"] += 1


def expect_named(table: DamagedTable, row: RowReport, report: VerifyReport, name: str, what: str) -> None:
    """`verify` must name a file, and say rightly what is affected.

    Raises:
        TruthFailed: it doesn't.
    """
    named = [damage for damage in report.damages if damage.name == name]
    _expect(bool(named), row, f"{what}; named instead: {[str(damage) for damage in report.damages]}")
    _expect(all(damage.affected for damage in named), row, f"{what}: what is affected is told")
    for told in table.held.get(name, [])[:_SHOWN]:
        _expect(any(told in damage.affected for damage in named), row, f"{what}: {told} is told of: {named}")


def expect_whole(table: DamagedTable, row: RowReport, what: str) -> VerifyReport:
    """`verify` must find nothing.

    Raises:
        TruthFailed: it does.
    """
    report = table.verify()
    _expect(report.is_whole, row, f"{what}; and yet: {[str(damage) for damage in report.damages]}")
    return report


def expect_cut(table: DamagedTable, row: RowReport, dropped: list[str]) -> None:
    """The head must be missing; a `verify` without it may see it or not.

    Raises:
        TruthFailed: it isn't.
    """
    _expect(table.lost_head() is not None, row, f"{dropped} were dropped, and the head is said to be there")
    table.verify()


def _expect(is_so: bool, row: RowReport, what: str) -> None:  # noqa: FBT001 - what is expected
    row.comparisons += 1
    if not is_so:
        raise TruthFailed(what)


def _tables(campaign: Campaign, row: RowReport, what: str) -> Iterator[DamagedTable]:
    for is_old in (False, True):
        yield make_table(
            campaign.folder / f"row-{row.number}-{what}-{'old' if is_old else 'young'}", is_old=is_old
        )


def _halves(count: int) -> tuple[int, int]:
    return count // 2, count - count // 2


def _of(table: DamagedTable) -> str:
    return "sealed and compacted table" if table.files["segment"] else "table of commits alone"


def _newest_sealed(table: DamagedTable) -> int:
    """Version of the newest entry that a segment has, -1 if there is none."""
    ranges = [layout.segment_range(segment.rpartition("/")[2]) for segment in table.files["segment"]]
    return max((known[1] for known in ranges if known), default=-1)


def _overwrite(table: DamagedTable, name: str, content: bytes) -> None:
    table.path(name).write_bytes(content)


def _edit(
    table: DamagedTable, name: str, edit: Callable[[dict[str, Any], list[dict[str, Any]]], bool]
) -> bool:
    """Edits an entry, and makes its own checksum right."""
    path: Path = table.path(name)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    info = lines[0]["commitInfo"]
    facts = info.pop("eventArchive")
    del facts["entrySha256"]
    if not edit(facts, lines[1:]):
        return False
    path.write_bytes(seal_entry(lines[1:], facts, info))
    return True


def _edit_time(facts: dict[str, Any], _actions: list[dict[str, Any]]) -> bool:
    facts["ingestedAtUs"] -= 1
    return True


def _edit_positions(facts: dict[str, Any], _actions: list[dict[str, Any]]) -> bool:
    if not facts["positions"]:
        return False
    facts["positions"]["source_id"][0] = "file:other.jsonl"
    return True


def _edit_path(facts: dict[str, Any], actions: list[dict[str, Any]], path: str) -> bool:
    add = next(action["add"] for action in actions if "add" in action)
    facts["files"] = {path: facts["files"][add["path"]]}
    add["path"] = path
    return True
