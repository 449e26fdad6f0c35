"""File operations that survive a power cut: copy, sync, switch a link.

What doesn't live here: when they are done (`build`, `publish`).
"""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_COPY_BYTES = 1 << 30


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


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
