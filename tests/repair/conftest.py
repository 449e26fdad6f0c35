"""A table to be damaged, and a copy of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from event_archive.archive.history import log_versions
from event_archive.sealing import seal
from tests.copying.copies import ingest_files
from tests.repair.repairing import copy_of

if TYPE_CHECKING:
    from tests.conftest import Project


@pytest.fixture
def sealed(project: Project) -> Project:
    """A table with two seals and some commits after them, and a copy of it."""
    ingest_files(project, 5)
    assert seal(project.store, at_least=3)
    ingest_files(project, 4, first=5)
    assert seal(project.store, at_least=3)
    ingest_files(project, 3, first=9)
    assert log_versions(project.store)[0] > 0
    shutil.copytree(project.table, copy_of(project).folder)
    return project
