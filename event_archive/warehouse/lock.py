"""The lock that makes a build, or a switch, the only one of its warehouse.

What doesn't live here: what is done under it (`build`, `switching`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from event_archive.errors import EventArchiveError, StorageError
from event_archive.warehouse import layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_SECONDS = 0.1


class WarehouseBusy(EventArchiveError):
    """Another process is building this warehouse; trying again when it has ended helps."""


def take_lock(warehouse: Path, wait_seconds: float) -> int:
    """Take the warehouse's lock, and make its folder. The kernel lets go of it when the process ends, however it ends.

    Returns:
        The descriptor that holds it; closing it lets go.

    Raises:
        WarehouseBusy: Somebody else holds it, still after the wait.
        StorageError: The folder can't be written.
    """
    path = warehouse / layout.LOCK_NAME
    try:
        warehouse.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"The warehouse folder {warehouse} can't be written ({error.strerror}); give write access to it, "
            "or name another folder as `warehouse` in the configuration."
        ) from error
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() < until:
                time.sleep(_POLL_SECONDS)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise WarehouseBusy(
                f"Another build of the warehouse {warehouse} is under way ({holder or 'its process is not known'}); "
                "wait until it has ended, then run this again."
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"{path} can't be locked ({error.strerror}); put the warehouse on a file system that has locks."
            ) from error
    # For people who wait; a full disk refuses it, and will tell by itself if it refuses the build.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        holder = f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n"
        os.pwrite(descriptor, holder.encode(), 0)
    return descriptor


def is_the_lock(descriptor: int, warehouse: Path) -> bool:
    """Say whether an open lock is still the file that others would lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), (warehouse / layout.LOCK_NAME).stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(warehouse: Path, wait_seconds: float) -> Iterator[None]:
    """Hold the warehouse's lock for a block; see `take_lock`."""
    descriptor = take_lock(warehouse, wait_seconds)
    try:
        yield
    finally:
        os.close(descriptor)
