"""The order of steps of a commit, taken from the calls to the operating system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.ingest import ingest_stream

if TYPE_CHECKING:
    from tests.conftest import Project


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is synced and linked, in order: (call, path)."""
    noted: list[tuple[str, str]] = []
    fsync, link = os.fsync, os.link

    def noting_fsync(handle: int) -> None:
        noted.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def noting_link(source: Path, target: Path) -> None:
        noted.append(("link", str(target)))
        link(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "link", noting_link)
    return noted


def test_a_commit_is_durable_before_it_is_visible(project: Project, calls: list[tuple[str, str]]) -> None:
    """Data file, its folder, the entry's bytes; then the name; then the folder of the log."""
    project.write("a.jsonl", b"one\n")

    result = ingest_stream(project.config(), "events")
    log = str(project.table / layout.LOG_FOLDER)
    (data_file,) = map(str, project.table.glob("*/*.parquet"))
    linked = calls.index(("link", str(project.table / layout.entry_name(1))))
    before, after = calls[:linked], calls[linked + 1 :]
    assert ("fsync", data_file) in before
    assert ("fsync", os.path.dirname(data_file)) in before[before.index(("fsync", data_file)) :]  # noqa: PTH120
    assert before[-1][0] == "fsync"
    assert before[-1][1].startswith(f"{log}/_commit_")
    assert after == [("fsync", log)]
    assert result.version == 1


def test_new_folders_are_durable_too(project: Project, calls: list[tuple[str, str]]) -> None:
    """A synced file in a folder whose own name is lost is lost."""
    project.write("a.jsonl", b"one\n")
    project.ingest()
    first_link = next(index for index, (call, _) in enumerate(calls) if call == "link")
    synced = {path for call, path in calls[:first_link] if call == "fsync"}
    assert {str(project.folder), str(project.folder / "archive"), str(project.table)} <= synced
