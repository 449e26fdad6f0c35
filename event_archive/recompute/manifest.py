"""dbt's manifest of a project, which says all that dbt knows of it: asked for only when a file of the project has changed since.

It is kept in the project's folder `target`. What doesn't live here: what is read from it (`project`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from event_archive.errors import EventArchiveError
from event_archive.recompute.dbt import QUIET, dbt_executable

if TYPE_CHECKING:
    from collections.abc import Iterator

_TARGET = "target"
_MANIFEST = "manifest.json"
_SOURCES_HASH = "manifest.sources.sha256"
_PARTIAL_PARSE = "partial_parse.msgpack"
_DBT = ("dbt-core", "dbt-duckdb")
"""Another version writes another manifest, and can't go on from what this one has parsed."""
_NOT_SOURCES = {_TARGET, "logs", "dbt_packages", "__pycache__"}


class ProjectUnreadable(EventArchiveError):
    """dbt can't parse the project, or a model breaks a rule without which its rows couldn't be trusted."""


def manifest_of(project: Path) -> Path:
    """Give the project's manifest, made anew if any of its files differs from what it was made of.

    Several processes may ask at once: one parses, the others wait for it.

    Raises:
        ProjectUnreadable: dbt can't parse the project; the text is dbt's.
    """
    target = project / _TARGET
    manifest = target / _MANIFEST
    if _made_of(target) == sources_hash(project):
        return manifest
    try:
        target.mkdir(exist_ok=True)
        with (target / ".parse.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sources = sources_hash(project)
            if _made_of(target) != sources:
                _parse(project, sources)
    except OSError as error:
        raise ProjectUnreadable(
            f"What dbt says of the project can't be kept in {target} ({error.strerror}); give write access, or make room on the disk."
        ) from error
    return manifest


def sources_hash(project: Path) -> str:
    """One hash of all files of a project, and of which dbt reads them."""
    total = hashlib.sha256()
    for package in _DBT:
        with contextlib.suppress(PackageNotFoundError):  # a dbt that isn't of this environment
            total.update(f"{package} {version(package)}\n".encode())
    for path in sorted(_sources(project)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(project)} {content}\n".encode())
    return total.hexdigest()


def _made_of(target: Path) -> str | None:
    try:
        return (target / _SOURCES_HASH).read_text() if (target / _MANIFEST).exists() else None
    except FileNotFoundError:
        return None


def _sources(project: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(project):
        folders[:] = [name for name in folders if name not in _NOT_SOURCES]
        # An editor's lock is a link to nowhere.
        yield from (path for name in files if (path := project / folder / name).is_file())


def _parse(project: Path, sources: str) -> None:
    target = project / _TARGET
    # Beside the old one, since readers must never see half a manifest. And from nothing: going on from what it had parsed before, dbt
    # misses that a model has come whose description was there already.
    with tempfile.TemporaryDirectory(dir=target, prefix="parse-") as folder:
        done = _run_dbt_parse(project, folder)
        if done.returncode != 0:
            raise ProjectUnreadable(
                f"dbt can't parse the project {project}; correct it and try again.\n{done.stdout}{done.stderr}"
            )
        # The hash goes last: a manifest counts as current only with the hash of what it was made of.
        (target / _SOURCES_HASH).unlink(missing_ok=True)
        for name in (_PARTIAL_PARSE, _MANIFEST):
            Path(folder, name).replace(target / name)
        beside = target / f"{_SOURCES_HASH}.new"
        beside.write_text(sources)
        beside.replace(target / _SOURCES_HASH)


def _run_dbt_parse(project: Path, target: str) -> subprocess.CompletedProcess[str]:
    places = {"project-dir": project, "profiles-dir": project, "target-path": target, "log-path": target}
    where = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    return subprocess.run(  # noqa: S603 - our own project, no shell
        [dbt_executable(), "--quiet", "parse", *where],
        cwd=project,
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
