"""A checkpoint that no seal made must say what the log adds up to: Delta's readers believe it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from event_archive import layout
from event_archive.verify import verify_stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Project

Rows = list[dict[str, Any]]


@pytest.fixture
def checkpoint(project: Project) -> Path:
    """One that delta-rs has made of a table of four files."""
    for number in range(4):
        project.write(f"{number}.jsonl", b'{"x": 1}\n' * 3)
        project.ingest()
    DeltaTable(project.table).create_checkpoint()
    (path,) = (project.table / layout.LOG_FOLDER).glob("*.checkpoint.parquet")
    return path


def faults(project: Project) -> str:
    """All that is found, in one text."""
    return "; ".join(str(damage) for damage in verify_stream(project.config(), "events").damages)


def test_a_checkpoint_of_another_writer_is_harmless_and_told_of(project: Project, checkpoint: Path) -> None:
    """If it says the same."""
    report = verify_stream(project.config(), "events")
    assert report.is_whole
    assert any(str(checkpoint) in note for note in report.notes)


def _first(rows: Rows, kind: str) -> dict[str, Any]:
    action: dict[str, Any] = next(row[kind] for row in rows if row[kind])
    return action


def _stats(rows: Rows, change: Callable[[dict[str, Any]], None]) -> None:
    add = _first(rows, "add")
    stats = json.loads(add["stats"])
    change(stats)
    add["stats"] = json.dumps(stats)


def _removed(rows: Rows) -> None:
    path = _first(rows, "add")["path"]
    remove = {"path": path, "dataChange": False, "deletionTimestamp": 1, "size": 1}
    rows.append({"remove": remove})


LIES: dict[str, tuple[Callable[[Rows], Any], str]] = {
    "a file is left out": (
        lambda rows: rows.remove(next(row for row in rows if row["add"])),
        "names other files",
    ),
    "a file twice": (
        lambda rows: rows.append(next(row for row in rows if row["add"])),
        "names other files",
    ),
    "another size": (lambda rows: _first(rows, "add").update(size=1), "another size"),
    "another partition": (
        lambda rows: _first(rows, "add").update(partitionValues=[("ingest_date", "1999-01-01")]),
        "another partitionValues",
    ),
    "narrower bounds": (
        lambda rows: _stats(rows, lambda stats: stats["maxValues"].update(source_offset=1)),
        "other statistics",
    ),
    "wider bounds": (
        lambda rows: _stats(rows, lambda stats: stats["maxValues"].update(source_offset=99)),
        "other statistics",
    ),
    "no statistics": (lambda rows: _first(rows, "add").update(stats=None), "other statistics"),
    "a deletion vector": (
        lambda rows: _first(rows, "add").update(
            deletionVector={
                "storageType": "i",
                "pathOrInlineDv": "x",
                "sizeInBytes": 1,
                "cardinality": 1,
            }
        ),
        "another deletionVector",
    ),
    "an active file as removed": (_removed, "was removed, which is active"),
    "another count": (lambda rows: _first(rows, "txn").update(version=1), "other txn versions"),
    "no count": (
        lambda rows: rows.remove(next(row for row in rows if row["txn"])),
        "other txn versions",
    ),
    "another protocol": (
        lambda rows: _first(rows, "protocol").update(minReaderVersion=3),
        "another protocol",
    ),
    "no protocol": (
        lambda rows: rows.remove(next(row for row in rows if row["protocol"])),
        "not one protocol",
    ),
    "another schema": (
        lambda rows: _first(rows, "metaData").update(schemaString="{}"),
        "another metaData",
    ),
    "another action": (
        lambda rows: rows.append(
            {"domainMetadata": {"domain": "delta.x", "configuration": "{}", "removed": False}}
        ),
        "holds domainMetadata",
    ),
}


@pytest.mark.parametrize("lie", LIES, ids=[lie.replace(" ", "-") for lie in LIES])
def test_a_checkpoint_that_says_something_else_is_damage(
    project: Project, checkpoint: Path, lie: str
) -> None:
    """Whatever it is that a reader might use."""
    change, reason = LIES[lie]
    with checkpoint.open("rb") as file:
        table = pq.ParquetFile(file).read()
    rows = table.to_pylist()
    change(rows)
    checkpoint.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), checkpoint)
    found = faults(project)
    assert str(checkpoint) in found
    assert reason in found


def test_the_same_statistics_written_in_another_way_are_the_same(project: Project, checkpoint: Path) -> None:
    """Spaces and the order of names say nothing."""
    with checkpoint.open("rb") as file:
        table = pq.ParquetFile(file).read()
    rows = table.to_pylist()
    for row in rows:
        if row["add"]:
            row["add"]["stats"] = json.dumps(json.loads(row["add"]["stats"]), indent=1, sort_keys=True)
    checkpoint.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), checkpoint)
    assert faults(project) == ""
