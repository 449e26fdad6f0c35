"""Row 5: the disk is full."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from campaign.truth import TruthFailed

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from campaign.faults import Fault
    from campaign.report import RowReport
    from campaign.world import Campaign, World

_SIZE_BYTES = 24 * 2**20
_ROOM_BYTES = 150_000
_COMMIT_BYTES = (30_000, 2**27)  # in the middle of an ingest, and at its end
_PAGE_BYTES = 4096
_TRIES_SECONDS = 3.0


def limit_files(campaign: Campaign, row: RowReport) -> None:
    """The one limit that needs no privilege: no file may become larger than that, as with a quota.

    Raises:
        TruthFailed: no clear error, something half-done is left, or it doesn't go on.
    """
    generator = campaign.random(row)
    world = campaign.world(row)
    with world.producing() as producers:
        world.ingest()
        for number in range(campaign.settings.rounds):
            for commit_bytes in _COMMIT_BYTES:
                world.configure(commit_bytes=commit_bytes)
                _limit_files(world, generator, follows=number % 2 == 1)
    world.finish([producers])
    _limit_a_large_file(campaign, row, generator)


def fill(campaign: Campaign, row: RowReport) -> None:
    """A small disk, where this process may mount one, full at another point each time; then there is room again.

    Raises:
        TruthFailed: no clear error, something half-done is visible, or it doesn't go on.
    """
    generator = campaign.random(row)
    world = campaign.world(row)
    archive = world.folder / "archive"
    with _small_disk(archive) as is_small:
        if not is_small:
            row.done["this process may not mount a small disk: only the size of files was limited"] = 1
            return
        with world.producing() as producers:
            world.ingest()
            for number in range(campaign.settings.rounds * 2):
                _fill(world, archive, generator.randrange(_ROOM_BYTES), is_last=number % 4 == 3)
            _fill_under_follow(world, archive)
        world.finish([producers])


def _limit_files(world: World, generator: random.Random, *, follows: bool) -> None:
    world.wait_for_backlog(300)
    limit = generator.randrange(100, 4000)
    faults: list[Fault] = [{"do": "limit", "file_bytes": limit}]
    if follows:
        command = world.start_following(faults)
        world.wait_until(lambda: command.said().count("File too large") >= 1, "word of the limit", by=command)
        time.sleep(_TRIES_SECONDS)
        if (code := command.end()) not in (0, 1) or "Traceback" in command.said():
            raise TruthFailed(
                f"an ingest that follows ended with {code} where files are limited: {command.said()}"
            )
    else:
        world.refused(saying="File too large", faults=faults)
    _nothing_left(world)
    world.row.done["no room for a file beyond a limit"] += 1


def _limit_a_large_file(campaign: Campaign, row: RowReport, generator: random.Random) -> None:
    """A file that the disk refuses while it is written, not only when it is ended."""
    world = campaign.world(row, commit_bytes=2**27)
    records = [generator.randbytes(900_000) for _ in range(10)]
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap, "acks": "all", "log_level": 0})
    for record in records:
        producer.produce(world.topic, record)
    producer.flush()
    for _ in range(campaign.settings.rounds):
        limit = generator.randrange(500_000, 7_000_000)
        world.refused(saying="File too large", faults=[{"do": "limit", "file_bytes": limit}])
        _nothing_left(world)
        row.done["no room for a large file beyond a limit"] += 1
    world.finish()


def _fill(world: World, archive: Path, room_bytes: int, *, is_last: bool) -> None:
    world.wait_for_backlog(300)
    ballast = _ballast(archive, room_bytes)
    command = world.start_ingest()
    if command.wait() == 1:
        if "The disk is full: make room" not in command.said() or "Traceback" in command.said():
            raise TruthFailed(f"a full disk should be a clear error; the ingest said: {command.said()}")
        world.row.done["disk full in the middle of an ingest"] += 1
    elif command.code != 0:
        raise TruthFailed(f"an ingest on a full disk ended with {command.code}: {command.said()}")
    else:
        world.row.done["disk nearly full, and just enough room"] += 1
    if "Exception ignored" in command.said():
        raise TruthFailed(f"an ingest on a full disk complained of itself: {command.said()}")
    _nothing_left(world)
    ballast.unlink()
    if is_last:
        world.ingest()


def _fill_under_follow(world: World, archive: Path) -> None:
    command = world.start_following()
    world.wait_for_entries(1, by=command)
    ballast = _ballast(archive, 0)
    world.wait_until(
        lambda: "The disk is full: make room" in command.said(), "word of the full disk", by=command
    )
    before = world.entries()
    ballast.unlink()
    world.wait_for_entries(2, than=before, by=command)
    command.end_well()
    _nothing_left(world)
    world.row.done["disk full under an ingest that follows, which goes on by itself"] += 1


def _nothing_left(world: World) -> None:
    if left := world.check_so_far():
        raise TruthFailed(f"an ingest that failed left files on a full disk: {left}")


def _ballast(archive: Path, room_bytes: int) -> Path:
    """A file that takes all space but `room_bytes`, in whole pages."""
    path = archive / "ballast"
    free = os.statvfs(archive)
    size = free.f_bavail * free.f_frsize - room_bytes
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, _PAGE_BYTES) // _PAGE_BYTES * _PAGE_BYTES)
    return path


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own at `folder`, if this process may mount one; says whether it's there."""
    folder.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={_SIZE_BYTES}", "none", str(folder)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", str(folder)], check=True)
