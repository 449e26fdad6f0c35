"""Where each file of the warehouse is; the only module that names paths in it.

What doesn't live here: anything that writes.

    <warehouse>/current.duckdb                    a relative link to the published build; what readers open
    <warehouse>/builds/<build id>.duckdb          published builds, newest last, never written again
    <warehouse>/builds/<build id>.snapshot.json   which archive files that build was computed from
    <warehouse>/building/<build id>/              a build under way; its file is called current.duckdb too, because DuckDB names
                                                  a database after its file, and views remember that name
    <warehouse>/.building.lock                    held (flock) for the life of a build
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME = ".building.lock"
PUBLISHED_NAME = "current.duckdb"

_BUILD_ID = re.compile(r"(\d{8}T\d{6}\d{6}Z)-[0-9a-f]{6}")
_TIME_FORMAT = "%Y%m%dT%H%M%S%fZ"


def new_build_id(*, after: str | None = None) -> str:
    """Name a new build: UTC time to the microsecond and a few random digits.

    Args:
        after: A build id that the new one must sort behind, even if the clock has been set back since.
    """
    now = datetime.now(UTC)
    if after is not None:
        now = max(now, _build_time(after) + timedelta(microseconds=1))
    return f"{now.strftime(_TIME_FORMAT)}-{secrets.token_hex(3)}"


def is_build_id(text: str) -> bool:
    """Say whether a text is the name of a build; nothing else is ever put into a path here."""
    return _BUILD_ID.fullmatch(text) is not None


def builds_folder(warehouse: Path) -> Path:
    """The folder of published builds."""
    return warehouse / "builds"


def building_folder(warehouse: Path) -> Path:
    """The folder of builds under way, each in a folder of its own."""
    return warehouse / "building"


def build_file(warehouse: Path, build_id: str) -> Path:
    """The file of a published build."""
    return builds_folder(warehouse) / f"{build_id}.duckdb"


def snapshot_file(warehouse: Path, build_id: str) -> Path:
    """The file that pins which archive files a published build was computed from."""
    return builds_folder(warehouse) / f"{build_id}.snapshot.json"


def current_link(warehouse: Path) -> Path:
    """The link that readers open."""
    return warehouse / PUBLISHED_NAME


def current_build_id(warehouse: Path) -> str | None:
    """Name the published build, or None if nothing has been published yet."""
    try:
        target = current_link(warehouse).readlink()
    except OSError:  # absent, or no link: then it is not ours
        return None
    return target.stem if is_build_id(target.stem) else None


def published_file(warehouse: Path) -> Path | None:
    """Give the file of the published build itself, or None if there is none.

    A process that keeps a connection open should open this rather than the link: DuckDB shares one database between all
    connections of a process to the same path, so a second connection to the link would still see the older build.
    """
    build_id = current_build_id(warehouse)
    if build_id is None:
        return None
    file = build_file(warehouse, build_id)
    return file if file.is_file() else None


def published_build_ids(warehouse: Path) -> list[str]:
    """List the builds in the folder of published ones, oldest first."""
    folder = builds_folder(warehouse)
    if not folder.is_dir():
        return []
    return sorted(file.stem for file in folder.glob("*.duckdb") if is_build_id(file.stem))


def snapshot_files_without_build(warehouse: Path) -> list[Path]:
    """List what builds have left that were killed while they were moved into place, or removed."""
    folder = builds_folder(warehouse)
    if not folder.is_dir():
        return []
    builds = set(published_build_ids(warehouse))
    found = [(file, file.name.removesuffix(".snapshot.json")) for file in folder.glob("*.snapshot.json")]
    return [file for file, build_id in found if is_build_id(build_id) and build_id not in builds]


def _build_time(build_id: str) -> datetime:
    match = _BUILD_ID.fullmatch(build_id)
    if match is None:
        raise ValueError(f"{build_id!r} is not the name of a build")
    return datetime.strptime(match[1], _TIME_FORMAT).replace(tzinfo=UTC)
