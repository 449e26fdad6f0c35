"""Fixtures of the tests of what `scaffold` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dbt_project.conftest import demo
from tests.scaffold.place import Place

if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["demo", "place"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with a configuration of no streams."""
    made = Place(tmp_path)
    made.configure()
    return made
