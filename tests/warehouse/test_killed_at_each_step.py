"""Finishing, switching and going back, killed right before each call that changes or syncs a file: what is there is whole, and heals."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from event_archive.warehouse import (
    BuildState,
    current_build_id,
    layout,
    list_builds,
    read_build,
    start_build,
)
from tests.warehouse.builders import SEATS, published, rows, waiting

if TYPE_CHECKING:
    from pathlib import Path

DYING = """
import os, signal
fatal, calls = int({fatal}), 0
def dying(original):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    return call
from pathlib import Path
import duckdb
from event_archive.warehouse import MadeBy, finish, keep_waiting, publish, publish_waiting, roll_back, start_build
warehouse = Path({warehouse!r})
for name in ("chmod", "fchmod", "fsync", "link", "mkdir", "pwrite", "rename", "replace", "rmdir", "symlink", "unlink", "write"):
    setattr(os, name, dying(getattr(os, name)))
"""
FILL = """
with start_build(warehouse, mode="refresh", streams={}) as build:
    with duckdb.connect(str(build.file)) as connection:
        connection.execute("create or replace table seats as select range as seat, 'new' as state from range(20)")
"""
OPERATIONS = {
    "publish": FILL + "    publish(build, MadeBy('the operation'), keep=2)",
    "wait": FILL + "    finish(build, MadeBy('the operation'))\n    keep_waiting(build, keep=2)",
    "roll back": "roll_back(warehouse, {older!r})",
    "publish one that waits": "publish_waiting(warehouse, {wait!r})",
}


def die(warehouse: Path, operation: str, fatal: int) -> bool:
    """Run an operation in a process that kills itself before its call number `fatal`; say whether it did."""
    planted = DYING.format(fatal=fatal, warehouse=str(warehouse)) + operation
    done = subprocess.run(
        [sys.executable, "-c", planted], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode != 0


def check_whole(warehouse: Path) -> None:
    """Every build that is said to be there can be read and is what its record says; readers see one of them."""
    assert rows(layout.current_link(warehouse), "select count(*) from seats") in ([(10,)], [(20,)])
    for build in list_builds(warehouse):
        assert build.problem is None
        if build.state is not BuildState.REMOVED and build.build_id in layout.build_ids_with_record(
            warehouse
        ):
            assert read_build(layout.build_file(warehouse, build.build_id)) == build.record


def check_healed(warehouse: Path) -> None:
    """After the next build has begun nothing is left of what the dead one had begun."""
    live = current_build_id(warehouse)
    start_build(warehouse, mode="rebuild", streams={}).discard("it only clears away")
    assert current_build_id(warehouse) == live
    there = {path.name for path in warehouse.iterdir()}
    assert there <= {"builds", "building", layout.PUBLISHED_NAME, layout.LOCK_NAME, "switches.jsonl"}
    assert list(layout.building_folder(warehouse).iterdir()) == []
    known = set(layout.build_ids_with_record(warehouse))
    files = {path.name for path in layout.builds_folder(warehouse).iterdir()}
    assert files == {f"{name}.json" for name in known} | {
        f"{name}.duckdb" for name in layout.build_ids_with_file(warehouse)
    }
    assert set(layout.build_ids_with_file(warehouse)) <= known


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_each_step_leaves_whole_builds(tmp_path: Path, name: str) -> None:
    """Readers see the older build or the newer one; done again, the operation succeeds."""
    older = published(tmp_path, SEATS)
    newer = published(tmp_path, SEATS)
    wait = waiting(tmp_path, SEATS.replace("10", "20"))
    operation = (
        OPERATIONS[name].replace("{older!r}", repr(older.build_id)).replace("{wait!r}", repr(wait.build_id))
    )
    fatal = 0
    while True:
        fatal += 1
        if not die(tmp_path, operation, fatal):
            break
        check_whole(tmp_path)
        check_healed(tmp_path)
        if name in {"roll back", "publish one that waits"}:
            assert current_build_id(tmp_path) in {newer.build_id, older.build_id, wait.build_id}
            # Back to where it began: done already, it would have no more steps to be killed at.
            layout.current_link(tmp_path).unlink()
            layout.current_link(tmp_path).symlink_to(f"builds/{newer.build_id}.duckdb")
    assert fatal > {"publish": 12, "wait": 10}.get(name, 4), "hardly anything was killed: this proved nothing"
    check_whole(tmp_path)
    check_healed(tmp_path)
    expected = {"roll back": older.build_id, "publish one that waits": wait.build_id}
    if name in expected:
        assert current_build_id(tmp_path) == expected[name]
    else:
        newest = list_builds(tmp_path)[0]
        assert newest.record is not None
        assert newest.record.built_by == "the operation"
        assert newest.state == (BuildState.LIVE if name == "publish" else BuildState.WAITING)
