"""Readers, kills and a full disk, with real processes: the published tables are always whole.

A kill at each single step is in `test_killed_at_each_step`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.warehouse import (
    MadeBy,
    current_build_id,
    layout,
    publish,
    published_file,
    read_published,
    start_build,
)
from event_archive.warehouse.switching import ever_published

if TYPE_CHECKING:
    from pathlib import Path

SWITCHES = 20
READER = """
import pathlib, sys, time
import duckdb
link, stop = sys.argv[1], pathlib.Path(sys.argv[2])
seen, reads = set(), 0
while not stop.exists():
    with duckdb.connect(link, read_only=True) as connection:
        # Every table of a build holds the build's number in every row: anything else is half a build.
        seats = connection.execute("select count(*), min(build), max(build) from seats").fetchone()
        carts = connection.execute("select count(*), min(build), max(build) from carts").fetchone()
        info = connection.execute("select count(*) from build_info").fetchone()
        assert seats == carts and seats[0] == 20000 and seats[1] == seats[2] and info == (1,), (seats, carts, info)
        seen.add(seats[1])
        reads += 1
    if reads == 1:
        print("reading", flush=True)
print(reads, *sorted(seen))
"""
WRITER = """
import sys
from contextlib import closing
from pathlib import Path
import duckdb
from event_archive.warehouse import MadeBy, publish, start_build
number = int(sys.argv[2])
with start_build(Path(sys.argv[1]), mode=sys.argv[3], streams={}) as build:
    print("started", flush=True)
    with closing(duckdb.connect(str(build.file))) as connection:
        for table in ("seats", "carts"):
            connection.execute(f"create or replace table {table} as select {number} as build from range(20000)")
    publish(build, MadeBy("a test"))
print("published", flush=True)
"""
HOLDER = """
import pathlib, sys, time
from event_archive.warehouse import start_build
build = start_build(pathlib.Path(sys.argv[1]), mode="rebuild", streams={})
print("started", flush=True)
time.sleep(600)
"""


def write(warehouse: Path, number: int, mode: str = "refresh") -> subprocess.Popen[str]:
    """Build and publish in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(warehouse), str(number), mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(writer: subprocess.Popen[str]) -> None:
    """Wait for a writer that must succeed."""
    _, errors = writer.communicate(timeout=120)
    assert writer.returncode == 0, errors


def published_number(warehouse: Path) -> int:
    """The number that all rows of the published build hold; fails if they differ."""
    with closing(duckdb.connect(str(layout.current_link(warehouse)), read_only=True)) as connection:
        numbers = connection.execute(
            "select distinct build from (from seats union all from carts)"
        ).fetchall()
        counts = connection.execute(
            "select (select count(*) from seats), (select count(*) from carts)"
        ).fetchone()
    assert counts == (20000, 20000)
    assert len(numbers) == 1
    return int(numbers[0][0])


def fill_and_publish(warehouse: Path, number: int, mode: str = "refresh") -> None:
    """Build and publish in this process."""
    with start_build(warehouse, mode=mode, streams={}) as build:
        with closing(duckdb.connect(str(build.file))) as connection:
            for table in ("seats", "carts"):
                connection.execute(
                    f"create or replace table {table} as select {number} as build from range(20000)"
                )
        publish(build, MadeBy("a test"))


def test_readers_never_fail_and_never_see_half_a_build(tmp_path: Path) -> None:
    """Three processes open and read the link without a pause, while it is switched twenty times."""
    fill_and_publish(tmp_path, 0)
    stop = tmp_path / "stop"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(layout.current_link(tmp_path)), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
    for number in range(1, SWITCHES + 1):
        fill_and_publish(tmp_path, number, mode="refresh" if number % 2 else "rebuild")
    stop.touch()
    seen: set[int] = set()
    for reader in readers:
        output, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
        seen.update(map(int, output.split()[1:]))
    assert len(seen) > SWITCHES // 2, "the readers slept through the switches: this proved nothing"


@pytest.mark.slow
def test_a_build_killed_anywhere_leaves_the_published_tables_whole(tmp_path: Path) -> None:
    """After each of 25 kills at random moments the published build is a whole one, and the next build succeeds."""
    chance = random.Random(20130101)
    started = time.monotonic()
    finish(write(tmp_path, 0))
    whole_run_seconds = time.monotonic() - started
    killed = 0
    for number in range(1, 26):
        before = published_number(tmp_path)
        writer = write(tmp_path, number, mode=chance.choice(["refresh", "rebuild"]))
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.random() * whole_run_seconds * 0.5)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        killed += writer.returncode == -signal.SIGKILL
        assert published_number(tmp_path) in {before, number}
    assert killed > 5
    finish(write(tmp_path, 99))
    assert published_number(tmp_path) == 99
    assert list(layout.building_folder(tmp_path).iterdir()) == []
    kept = layout.build_ids_with_file(tmp_path)
    assert kept[-1] == current_build_id(tmp_path)
    were_live = ever_published(tmp_path)
    assert len(were_live.intersection(kept)) <= 3
    assert len(set(kept) - were_live) <= 1, "one that was finished, but killed before the switch, may wait"


def test_a_dead_builders_lock_is_free_and_a_living_ones_is_not(tmp_path: Path) -> None:
    """The second builder is refused while the first lives, and starts as soon as it is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "started\n"
    refused = write(tmp_path, 1)
    _, errors = refused.communicate(timeout=60)
    assert refused.returncode != 0
    assert f"process {holder.pid}" in errors
    holder.kill()
    holder.communicate()
    finish(write(tmp_path, 1))
    assert published_number(tmp_path) == 1


def test_a_full_disk_leaves_the_published_tables_in_place(tmp_path: Path) -> None:
    """The copy for a refresh, and the records of a rebuild, hit the limit: one sentence each, and the older build stays."""
    fill_and_publish(tmp_path, 1)
    file = published_file(tmp_path)
    assert file is not None
    before = read_published(tmp_path)
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n".format(
        file.stat().st_size // 2
    )
    for mode in ("refresh", "rebuild"):
        done = subprocess.run(
            [sys.executable, "-c", limited + WRITER, str(tmp_path), "2", mode],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONFAULTHANDLER": ""},
        )
        assert done.returncode == 1, done
        assert read_published(tmp_path) == before
        assert list(layout.building_folder(tmp_path).iterdir()) == []
    assert published_number(tmp_path) == 1
