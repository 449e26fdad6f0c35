"""Checkpoints: another implementation of Delta Lake finds the same table in them as in the log entries that they stand for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from event_archive.archive.checkpoint import Tombstone, last_checkpoint_bytes
from event_archive.archive.log import DataFile
from tests.event_archive.folding import entries, fold, ingest_some

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project


def seal(table: Path, version: int, *, pointer: bool = True) -> None:
    """Puts a checkpoint in the place of the log entries up to `version`."""
    state = fold(table, version)
    content = state.content()
    (table / "_delta_log" / f"{version:020d}.checkpoint.parquet").write_bytes(content)
    if pointer:
        actions = 2 + len(state.transactions) + len(state.files) + len(state.removed)
        (table / "_delta_log" / "_last_checkpoint").write_bytes(
            last_checkpoint_bytes(
                version=version, actions=actions, size_bytes=len(content), add_files=len(state.files)
            )
        )
    for entry in entries(table)[: version + 1]:
        entry.unlink()


def sealed_copy(table: Path, version: int, *, pointer: bool = True) -> Path:
    """A copy of the table with a checkpoint in the place of the log entries up to `version`."""
    copy = table.with_name("copy")
    shutil.copytree(table, copy)
    seal(copy, version, pointer=pointer)
    return copy


def rows(table: deltalake.DeltaTable) -> pa.Table:
    """All rows in order of source and offset."""
    return table.to_pyarrow_table().sort_by(
        [("source_id", "ascending"), ("source_partition", "ascending"), ("source_offset", "ascending")]
    )


def assert_same_table(left: Path, right: Path, *, version: int | None = None) -> None:
    """Version, schema, configuration, transactions, files, statistics and rows."""
    one, other = (deltalake.DeltaTable(folder, version=version) for folder in (left, right))
    assert one.version() == other.version()
    assert one.schema() == other.schema()
    assert one.metadata() == other.metadata()
    assert str(one.protocol()) == str(other.protocol())
    last = fold(left, one.version())
    assert last.transactions
    for application, transaction in last.transactions.items():
        assert other.transaction_version(application) == transaction
    files = [pa.table(t.get_add_actions(flatten=True)).sort_by("path").to_pydict() for t in (one, other)]
    for columns in files:  # of the log: when the entry was written; of a checkpoint: the newest ingested_at
        del columns["modification_time"]
    assert files[0] == files[1]
    assert len(files[0]["path"]) == len(last.files)
    assert rows(one).equals(rows(other))


@pytest.mark.parametrize("pointer", [True, False], ids=["with_last_checkpoint", "before_last_checkpoint"])
@pytest.mark.parametrize("entries_after", [0, 2])
def test_delta_rs_finds_the_same_table_in_a_checkpoint_as_in_the_log(
    project: Project, *, entries_after: int, pointer: bool
) -> None:
    """The entries that the checkpoint covers are gone; those after it are read as ever."""
    newest = ingest_some(project)
    copy = sealed_copy(project.table, newest - entries_after, pointer=pointer)
    assert len(entries(copy)) == entries_after
    assert_same_table(project.table, copy)


def test_the_version_of_a_checkpoint_can_be_travelled_to(project: Project) -> None:
    """Delta's readers can still ask for any version from the checkpoint on."""
    newest = ingest_some(project)
    copy = sealed_copy(project.table, newest - 2)
    for version in (newest - 2, newest - 1):
        assert_same_table(project.table, copy, version=version)


def test_a_checkpoint_follows_a_checkpoint(project: Project) -> None:
    """The newer one counts; the older one may stay for readers in flight."""
    newest = ingest_some(project)
    copy = sealed_copy(project.table, 1)
    state = fold(project.table, newest)
    content = state.content()
    (copy / "_delta_log" / f"{newest:020d}.checkpoint.parquet").write_bytes(content)
    pointer = last_checkpoint_bytes(
        version=newest,
        actions=2 + len(state.transactions) + len(state.files),
        size_bytes=len(content),
        add_files=len(state.files),
    )
    (copy / "_delta_log" / "_last_checkpoint").write_bytes(pointer)
    for entry in entries(copy):
        entry.unlink()
    assert_same_table(project.table, copy)


def test_delta_rs_prunes_by_the_statistics_of_a_checkpoint(project: Project) -> None:
    """A filter that the statistics get wrong would lose rows; one on the partition that isn't in the checkpoint would too."""
    copy = sealed_copy(project.table, ingest_some(project))
    table = deltalake.DeltaTable(copy)
    for low in (0, 1, 450, 899, 900):
        found = table.to_pyarrow_table(filters=[("source_offset", ">=", low)], columns=["source_offset"])
        assert sorted(found["source_offset"].to_pylist()) == sorted([*range(low, 900)] * 3)
    (day,) = set(rows(table)["ingest_date"].to_pylist())
    for operator, expected in (("=", 2700), (">", 0)):
        assert table.to_pyarrow_table(filters=[("ingest_date", operator, day)]).num_rows == expected


def test_statistics_stand_in_a_checkpoint_as_in_the_log(project: Project) -> None:
    """The very string of the log entry, digit for digit."""
    newest = ingest_some(project)
    logged = {}
    for entry in entries(project.table):
        for line in entry.read_text().splitlines():
            if add := json.loads(line).get("add"):
                logged[add["path"]] = add
    content = fold(project.table, newest).content()
    adds = [row for row in pq.read_table(pa.BufferReader(content))["add"].to_pylist() if row]
    assert len(adds) == len(logged)
    for add in adds:
        entry_add = logged[add["path"]]
        assert add["stats"] == entry_add["stats"]
        assert add["size"] == entry_add["size"]
        assert dict(add["partitionValues"]) == entry_add["partitionValues"]
        # The file was made when its events were ingested; the entry a moment later.
        assert 0 <= entry_add["modificationTime"] - add["modificationTime"] < 60_000


def test_an_empty_table_has_a_checkpoint(project: Project) -> None:
    """Just created, or emptied: there are columns, and no rows."""
    ingest_some(project)
    copy = sealed_copy(project.table, 0)
    for entry in entries(copy):
        entry.unlink()
    table = deltalake.DeltaTable(copy)
    assert (table.version(), table.file_uris(), rows(table).num_rows) == (0, [], 0)
    assert table.schema() == deltalake.DeltaTable(project.table).schema()
    assert table.metadata().configuration["delta.appendOnly"] == "true"


def test_removed_files_stay_known_until_their_time_is_over(project: Project) -> None:
    """Delta's VACUUM may only touch what a tombstone names, and only after the tombstone's time."""
    ingest_some(project)
    table = deltalake.DeltaTable(project.table)
    before = rows(table)
    table.optimize.compact()
    newest = table.version()
    state = fold(project.table, newest)
    assert len(state.removed) > 3
    copy = sealed_copy(project.table, newest)
    assert_same_table(project.table, copy)
    sealed = deltalake.DeltaTable(copy)
    assert rows(sealed).equals(before)
    assert sealed.vacuum(retention_hours=168) == []
    overdue = sealed.vacuum(retention_hours=0, enforce_retention_duration=False)
    assert sorted(overdue) == sorted(state.removed)


def test_names_are_escaped_as_in_the_log(project: Project) -> None:
    """A checkpoint holds a path as the log has it, percent signs and all; Delta's readers decode it once."""
    newest = ingest_some(project)
    state = fold(project.table, newest)
    plain = next(iter(state.files))
    name = plain.replace("commit-", "a b%20ü+commit-")
    escaped = quote(name, safe="/=+")
    assert escaped != name
    copy = sealed_copy(project.table, newest)
    (copy / plain).rename(copy / name)
    state.files[escaped] = replace(state.files.pop(plain), path=escaped)
    (copy / "_delta_log" / f"{newest:020d}.checkpoint.parquet").write_bytes(state.content())
    table = deltalake.DeltaTable(copy)
    assert rows(table).equals(rows(deltalake.DeltaTable(project.table)))


def a_file(number: int) -> DataFile:
    """A data file of a generated table."""
    day = f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}"
    bounds = {
        "source_partition": number % 7,
        "source_offset": number * 100,
        "ingested_at": f"{day}T10:00:00.123Z",
        "commit_version": number + 1,
    }
    stats = {
        "numRecords": 100,
        "minValues": bounds,
        "maxValues": bounds,
        "nullCount": {"source_offset": 0, "key": 100},
    }
    path = f"ingest_date={day}/commit-{number + 1:020d}-{number:032x}.parquet"
    return DataFile(path, 1000 + number, "", 100, number + 1, stats)


def test_a_checkpoint_holds_twenty_thousand_files_and_as_many_tombstones(
    project: Project, tmp_path: Path
) -> None:
    """Each with its size, partition and statistics; more than one row group holds is no matter."""
    ingest_some(project)
    state = fold(project.table, 0)
    state.transactions = {f"event-archive:file:{n}": n * 3 for n in range(500)}
    state.files = {file.path: file for file in map(a_file, range(20_000))}
    state.removed = {
        file.path: Tombstone(file.path, file.size_bytes, 1_795_481_925_123)
        for file in map(a_file, range(20_000, 40_000))
    }
    log = tmp_path / "generated" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{20_000:020d}.checkpoint.parquet").write_bytes(state.content())
    table = deltalake.DeltaTable(log.parent)
    assert table.version() == 20_000
    assert table.transaction_version("event-archive:file:499") == 1497
    adds = pa.table(table.get_add_actions(flatten=True)).sort_by("path").to_pydict()
    expected = [state.files[path] for path in sorted(state.files)]
    assert adds["path"] == [file.path for file in expected]
    assert adds["size_bytes"] == [file.size_bytes for file in expected]
    assert adds["num_records"] == [100] * 20_000
    assert adds["max.source_offset"] == [file.stats["maxValues"]["source_offset"] for file in expected]
    assert [day.isoformat() for day in adds["partition.ingest_date"]] == [
        file.path[12:22] for file in expected
    ]


def test_more_files_than_a_row_group_takes_are_all_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups of two files each."""
    newest = ingest_some(project)
    monkeypatch.setattr("event_archive.archive.checkpoint._FILES_PER_ROW_GROUP", 2)
    copy = sealed_copy(project.table, newest)
    (checkpoint,) = (copy / "_delta_log").glob("*.checkpoint.parquet")
    assert pq.read_metadata(checkpoint).num_row_groups > 3
    assert_same_table(project.table, copy)
