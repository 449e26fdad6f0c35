"""Cleaning a project's stream, and making its files look old."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import TYPE_CHECKING, Any

from event_archive.clean import CleanResult, Reason, clean_stream

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.conftest import Project

NOW = dt.datetime.now(dt.UTC)
OLD = NOW - dt.timedelta(days=2)
IN_EIGHT_DAYS = NOW + dt.timedelta(days=8)


def cleaned(project: Project, **options: Any) -> CleanResult:
    """Cleans the project's stream."""
    return clean_stream(project.config(), "events", **options)


def reasons(result: CleanResult) -> set[Reason]:
    """Why files were removed."""
    return {file.reason for file in result.removed}


def names_in(project: Project) -> set[str]:
    """Every file of the table."""
    return {file.name for file in project.store.files()}


def put(project: Project, name: str, *, at: dt.datetime = OLD, content: bytes = b"x") -> Path:
    """Puts a file into the table, last written to at a time."""
    path = project.table / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def age(paths: Iterable[Path], *, days: float = 60) -> None:
    """Makes files look old, as a copy that keeps times or a wrong clock does."""
    then = time.time() - days * 86_400
    for path in paths:
        os.utime(path, (then, then))


def age_everything(project: Project) -> None:
    """The same with the whole table."""
    age(path for path in project.table.rglob("*") if path.is_file())
