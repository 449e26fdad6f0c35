"""Files that survive a power cut, names that are given once, links that are switched whole.

Every write to an archive or a warehouse goes through here. What doesn't live here: what the files mean, and when they are written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from event_archive.errors import FileMissing, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COPY_BYTES = 1 << 30
_HASHED_BYTES = 1 << 20


@contextlib.contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Turns what the file system refuses into a sentence with a remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(f"{error.filename or path}: is missing.") from error
    except OSError as error:
        remedy = {
            errno.ENOSPC: "The disk is full: make room and run the command again; nothing half-written is visible.",
            errno.EDQUOT: "The disk quota is used up: make room and run the command again.",
            errno.EACCES: "Check the permissions of the archive folder.",
            errno.EROFS: "The file system is read-only.",
        }.get(error.errno or 0, "Nothing was committed; run the command again when the storage is well.")
        reason = error.strerror or str(error)
        raise StorageError(f"{error.filename or path}: {reason}. {remedy}") from error


def sync(path: Path) -> None:
    """Has a file's bytes, or a folder's names, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Creates `folder` and its missing parents, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync(new.parent)


def publish_new(
    folder: Path, name: str, pending_name: str, content: bytes, *, mode: int | None = None
) -> bool:
    """Creates `folder/name` with `content`: durable before it is visible, and never replacing anything.

    The content is written and synced under `pending_name`, then linked: linking is atomic and fails if the name
    is taken, so of any number of writers exactly one wins.

    Returns:
        False if the name was taken (nothing has changed), True if it is now ours and durable.
    """
    pending = folder / pending_name
    try:
        with pending.open("xb") as file:
            file.write(content)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        try:
            os.link(pending, folder / name)
        except FileExistsError:
            return False
    finally:
        pending.unlink(missing_ok=True)
    sync(folder)
    return True


def copy_file(source: Path, target: Path) -> None:
    """Copy a file into a new one, sharing its blocks where the file system can (XFS, btrfs), else inside the kernel."""
    with source.open("rb") as reading, target.open("xb") as writing:
        if hasattr(os, "copy_file_range"):
            try:
                while os.copy_file_range(reading.fileno(), writing.fileno(), _COPY_BYTES):
                    pass
            except (
                OSError
            ):  # a file system that can't: go on by hand from where it stopped, or fail with the true reason
                reading.seek(os.lseek(writing.fileno(), 0, os.SEEK_CUR))
            else:
                return
        shutil.copyfileobj(reading, writing, 1 << 20)


def switch_link(link: Path, target: str) -> None:
    """Let a symbolic link point to something else, atomically: whoever opens it gets the old target or the new one."""
    beside = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    beside.symlink_to(target)
    try:
        beside.replace(link)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync(link.parent)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_HASHED_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
