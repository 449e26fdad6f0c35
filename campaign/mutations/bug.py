"""A bug that can be planted. What doesn't live here: the bugs themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of a file, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug, and what must notice it."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Arguments of pytest."""
    row: int | None = None
    """The row of the campaign that must notice it."""


def a_bug(name: str, file: str, old: str, new: str, *tests: str, row: int | None = None) -> Bug:
    """A bug of one edit."""
    return Bug(name, (Edit(file, old, new),), tests, row)
