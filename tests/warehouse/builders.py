"""Builds of a few statements, for the tests of the warehouse: SQL stands in for dbt.

What doesn't live here: tests.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb

from event_archive.warehouse import MadeBy, PinnedStream, finish, keep_waiting, publish, start_build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from event_archive.warehouse import BuildRecord

SEATS = "create or replace table seats as select range as seat, 'free' as state from range(10)"


def run(file: Path, *statements: str) -> None:
    """Run statements in a database file."""
    with closing(duckdb.connect(str(file))) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(file: Path, query: str) -> list[Any]:
    """Read from a database file as an analyst's tool does."""
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return connection.execute(query).fetchall()


def bookings(version: int, events: int) -> dict[str, PinnedStream]:
    """What a build sees of one stream."""
    return {"bookings": PinnedStream(version=version, files=(), events=events, chain_hash=f"{version:064x}")}


def published(
    warehouse: Path,
    *statements: str,
    mode: str = "refresh",
    version: int = 0,
    events: int = 0,
    keep: int = 3,
    grains: Mapping[str, Sequence[str]] | None = None,
) -> BuildRecord:
    """Publish a build that the statements fill."""
    with start_build(warehouse, mode=mode, streams=bookings(version, events)) as build:
        run(build.file, *statements)
        return publish(build, MadeBy("a test", grains=grains or {}), keep=keep)


def waiting(
    warehouse: Path, *statements: str, mode: str = "refresh", version: int = 0, events: int = 0, keep: int = 3
) -> BuildRecord:
    """Finish a build that the statements fill, and leave it waiting."""
    with start_build(warehouse, mode=mode, streams=bookings(version, events)) as build:
        run(build.file, *statements)
        finish(build, MadeBy("a test"))
        return keep_waiting(build, keep=keep)
