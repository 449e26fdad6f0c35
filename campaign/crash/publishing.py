"""Publishing a build of the warehouse, as an operation that is interrupted at each call.

A few statements fill the build in place of dbt. What doesn't live here: interrupting it (`points`).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import duckdb

from campaign.crash.operations import Acknowledge, After, Fact, Operation
from campaign.truth import TruthFailed
from event_archive.errors import StorageError
from event_archive.warehouse import layout
from event_archive.warehouse.build import PinnedStream, start_build
from event_archive.warehouse.finish import MadeBy
from event_archive.warehouse.publish import KEPT_BUILDS, publish, read_published
from event_archive.warehouse.record_tables import read_build

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from event_archive.warehouse.build import Build

_SEATS = 2000
_BUILT_BEFORE = 3


def _prepare(folder: Path) -> None:
    folder.joinpath("warehouse").mkdir()
    for version in range(_BUILT_BEFORE):
        _publish(folder / "warehouse", version)


def _run(folder: Path, acknowledge: Acknowledge) -> None:
    warehouse = folder / "warehouse"
    published = read_published(warehouse)
    version = published.versions["bookings"] + 1 if published else 0
    build_id = _publish(warehouse, version)
    acknowledge({"build": build_id, "version": version})


def _publish(warehouse: Path, version: int) -> str:
    """One that goes on from the published one, as a refresh does."""
    streams = {"bookings": PinnedStream(version=version, files=(), events=version, chain_hash=None)}
    with start_build(warehouse, mode="refresh", streams=streams) as build:
        try:
            _fill(build, version)
        except duckdb.Error as error:
            raise StorageError(f"the build could not be filled: {error}") from error
        return publish(build, MadeBy("a crash point")).build_id


def _fill(build: Build, version: int) -> None:
    """In place of dbt, whose own words these errors are not."""
    with closing(duckdb.connect(str(build.file))) as connection:
        connection.execute("create table if not exists seats (seat bigint, version bigint)")
        connection.execute("insert into seats select range, ? from range(?)", [version, _SEATS])


def _check(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    warehouse = folder / "warehouse"
    published = read_published(warehouse)
    if published is None:
        raise TruthFailed("nothing is published any more")
    version = published.versions["bookings"]
    if version < max([_BUILT_BEFORE - 1, *(fact["version"] for fact in acknowledged)]):
        raise TruthFailed(f"version {version} is published after {acknowledged} was")
    # Read through the link, as an analyst does.
    with closing(duckdb.connect(str(layout.current_link(warehouse)), read_only=True)) as connection:
        rows = connection.execute(
            "select version, count(distinct seat) from seats group by all order by 1"
        ).fetchall()
    if rows != [(number, _SEATS) for number in range(version + 1)]:
        raise TruthFailed(f"the published build of version {version} holds {rows}")
    kept = [
        read_build(layout.build_file(warehouse, build_id))
        for build_id in layout.build_ids_with_file(warehouse)
    ]
    if after == "recovery":
        _check_leftovers(warehouse, {build.build_id for build in kept})
    return sum(count for _, count in rows)


def _check_leftovers(warehouse: Path, builds: set[str]) -> None:
    # One that was cut off between its end and the switch is whole, and waits.
    if not KEPT_BUILDS <= len(builds) <= KEPT_BUILDS + 1:
        raise TruthFailed(f"{len(builds)} builds are kept")
    wanted = {layout.current_link(warehouse), warehouse / layout.LOCK_NAME}
    wanted |= {layout.build_file(warehouse, build_id) for build_id in builds}
    wanted |= {
        layout.record_file(warehouse, build_id) for build_id in layout.build_ids_with_record(warehouse)
    }
    wanted |= {layout.switches_file(warehouse)}
    there = {path for path in warehouse.rglob("*") if path.is_symlink() or not path.is_dir()}
    there |= set(layout.building_folder(warehouse).glob("*"))
    if there != wanted:
        raise TruthFailed(f"left over or missing: {', '.join(sorted(map(str, there ^ wanted)))}")


OPERATIONS = (Operation("publish", _prepare, _run, _check),)
