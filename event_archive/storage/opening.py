"""From what a person writes, a path or `s3://bucket/prefix`, to the store of that place."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from event_archive.errors import UsageError
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from event_archive.storage.store import Store

_S3_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What a place needs beside its name. Credentials come from the usual environment or profile, never from here."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    object_lock_days: int | None = None
    read_only_files: bool = False
    cache: Path = Path(".event_archive")
    """Where copies of far files are kept."""
    cache_bytes: int = 20 * 2**30


def is_far(place: str) -> bool:
    """Whether this names a place that isn't a folder."""
    return "://" in place


def check_place(place: str) -> str:
    """The place itself.

    Raises:
        ValueError: it is neither a path nor an `s3://` URL; the text says what is wrong.
    """
    if not is_far(place):
        return place
    match = _S3_URL.fullmatch(place)
    if match is None:
        raise ValueError("write a folder, or s3://bucket/prefix")
    prefix = (match.group(2) or "").strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise ValueError("the prefix has an empty part, or one of dots")
    return place


@functools.lru_cache(maxsize=16)
def open_store(place: str, options: StorageOptions) -> Store:
    """The store of a place; looks at nothing yet.

    Args:
        place: a path, or `s3://bucket/prefix`.
        options: how it is reached.

    Raises:
        UsageError: there is no such kind of place.
    """
    try:
        check_place(place)
    except ValueError as error:
        raise UsageError(f"{place}: {error}.") from None
    match = _S3_URL.fullmatch(place)
    if match is None:
        return FolderStore(Path(place), read_only_files=options.read_only_files)
    from event_archive.storage.cache import LocalCache
    from event_archive.storage.s3 import S3Settings, S3Store

    settings = S3Settings(
        endpoint_url=options.endpoint_url,
        region=options.region,
        profile=options.profile,
        object_lock_days=options.object_lock_days,
    )
    return S3Store(
        match.group(1),
        (match.group(2) or "").strip("/"),
        settings=settings,
        cache=LocalCache(options.cache / "files", options.cache_bytes),
        read_only_files=options.read_only_files,
    )
