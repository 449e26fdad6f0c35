"""Where each file of the warehouse is; the only module that names paths in it.

What doesn't live here: anything that writes.

    <warehouse>/current.duckdb              a relative link to the published build; what readers open
    <warehouse>/builds/<build id>.duckdb    finished builds: the published one, older ones, and those that wait to be published
    <warehouse>/builds/<build id>.json      what each finished build is made of; kept for ever, also when its file is gone
    <warehouse>/switches.jsonl              which build was switched in when, a line each
    <warehouse>/building/<build id>/        a build under way; its file is called current.duckdb too, because DuckDB names
                                            a database after its file, and views remember that name
    <warehouse>/.building.lock              held (flock) for the life of a build, and while the link is switched
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

_BUILD_ID = re.compile(r"(\d{8}T\d{6}\d{6}Z)-[0-9a-f]{6}", re.ASCII)
_TIME_FORMAT = "%Y%m%dT%H%M%S%fZ"
_PENDING_RECORD = re.compile(r"\.record-[0-9a-f]+\.tmp")


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
    """The folder of finished builds and of the records of all there ever were."""
    return warehouse / "builds"


def building_folder(warehouse: Path) -> Path:
    """The folder of builds under way, each in a folder of its own."""
    return warehouse / "building"


def build_file(warehouse: Path, build_id: str) -> Path:
    """The file of a finished build."""
    return builds_folder(warehouse) / f"{_checked(build_id)}.duckdb"


def record_file(warehouse: Path, build_id: str) -> Path:
    """The file that says what a finished build is made of."""
    return builds_folder(warehouse) / f"{_checked(build_id)}.json"


def pending_record_name() -> str:
    """Name, in the folder of builds, of a record that is being written."""
    return f".record-{secrets.token_hex(8)}.tmp"


def pending_records(warehouse: Path) -> list[Path]:
    """List the records that were being written; of nobody, if no build is under way."""
    found = builds_folder(warehouse).glob(".record-*.tmp")
    return [file for file in found if _PENDING_RECORD.fullmatch(file.name)]


def switches_file(warehouse: Path) -> Path:
    """The file that lists which build was switched in when."""
    return warehouse / "switches.jsonl"


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


def build_ids_with_file(warehouse: Path) -> list[str]:
    """List the builds of which the file is there, oldest first."""
    return _ids(warehouse, ".duckdb")


def build_ids_with_record(warehouse: Path) -> list[str]:
    """List the builds of which there is a record, oldest first: all that were ever finished."""
    return _ids(warehouse, ".json")


def newest_build_id(warehouse: Path) -> str | None:
    """Name the newest build that was ever finished here, or None."""
    known = {*build_ids_with_file(warehouse), *build_ids_with_record(warehouse)}
    return max(known, default=None)


def _ids(warehouse: Path, suffix: str) -> list[str]:
    found = builds_folder(warehouse).glob(f"*{suffix}")
    return sorted(file.stem for file in found if is_build_id(file.stem))


def _checked(build_id: str) -> str:
    if not is_build_id(build_id):
        raise ValueError(f"{build_id!r} is not the name of a build")
    return build_id


def _build_time(build_id: str) -> datetime:
    match = _BUILD_ID.fullmatch(build_id)
    if match is None:
        raise ValueError(f"{build_id!r} is not the name of a build")
    return datetime.strptime(match[1], _TIME_FORMAT).replace(tzinfo=UTC)
