"""Archives that lie with right hashes: files written anew, entries edited, and the whole chain made to fit."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.archive.data_file import DataFileWriter
from event_archive.archive.log import seal_entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from event_archive.archive.data_file import WrittenFile
    from tests.conftest import Project

Facts = dict[str, Any]
Actions = list[dict[str, Any]]


def rechain(project: Project, edit: Callable[[int, Facts, Actions], None]) -> None:
    """Edits the facts and actions of every entry in the log folder, and makes all hashes right."""
    paths = sorted((project.table / layout.LOG_FOLDER).glob("[0-9]*.json"))
    before: str | None = None
    for path in paths:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        info = lines[0]["commitInfo"]
        facts = info.pop("eventArchive")
        del facts["entrySha256"]
        if before is not None:
            facts["previousEntrySha256"] = before
        actions = lines[1:]
        edit(facts["version"], facts, actions)
        entry = seal_entry(actions, facts, info)
        path.write_bytes(entry)
        before = hashlib.sha256(entry).hexdigest()


def added(actions: Actions) -> dict[str, Any]:
    """The action that adds the entry's file."""
    add: dict[str, Any] = next(action["add"] for action in actions if "add" in action)
    return add


def rewrite(
    project: Project, version: int, change: Callable[[pa.Table], pa.Table], *, honest_stats: bool = True
) -> Path:
    """Writes the data file of a commit anew with other rows, and lets the log have its hash and size."""
    name = _file_of(project, version)
    path = project.table / name
    with path.open("rb") as file:
        parquet = pq.ParquetFile(file)
        groups = [change(parquet.read_row_group(number)) for number in range(parquet.num_row_groups)]
    written = _write(project, groups)
    (project.table / written.path).replace(path)

    def edit(number: int, facts: Facts, actions: Actions) -> None:
        if number == version:
            facts["files"][name] = written.sha256
            add = added(actions)
            add["size"] = written.size_bytes
            if honest_stats:
                add["stats"] = json.dumps(written.stats)

    rechain(project, edit)
    return path


def _file_of(project: Project, version: int) -> str:
    lines = (project.table / layout.entry_name(version)).read_text().splitlines()
    name: str = added([json.loads(line) for line in lines[1:]])["path"]
    return name


def _write(project: Project, groups: list[pa.Table]) -> WrittenFile:
    writer = DataFileWriter(project.store, "ingest_date=2000-01-01/forged.parquet")
    for rows in groups:
        writer.write_row_group(rows)
    return writer.finish()


def with_column(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """Rows with other values in a column."""
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))
