"""What dbt knows of its project: the manifest, built ahead so that Dagster needn't wait for dbt.

What doesn't live here: running dbt's models (`dbt_cli`).
"""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from event_archive.warehouse.layout import PUBLISHED_NAME
from orchestration.dbt_cli import QUIET, dbt_executable

_TARGET = "target"
_MANIFEST = "manifest.json"
_PARTIAL_PARSE = "partial_parse.msgpack"
_NOT_SOURCES = {_TARGET, "logs", "dbt_packages", "__pycache__"}


def load_manifest(project: Path) -> dict[str, Any]:
    """Read the project's manifest, with each test attached to a model.

    dagster-dbt shows a test of a single model as that model's check, but would hide a test over several models that doesn't say in its
    meta where it belongs. It is attached to the model that it names last.

    Raises:
        dagster.DagsterInvalidDefinitionError: dbt can't parse the project; the text is dbt's.
    """
    manifest: dict[str, Any] = json.loads(manifest_of(project).read_bytes())
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and not node.get("attached_node") and node["refs"]:
            name = node["refs"][-1]["name"]
            node["config"]["meta"].setdefault("dagster", {}).setdefault("ref", {"name": name})
    return manifest


def manifest_of(project: Path) -> Path:
    """Give the project's manifest, made anew if the project has changed since.

    Several processes may ask at once (the web server's, the daemon's, each run's): one parses, the others wait for it.

    Raises:
        dagster.DagsterInvalidDefinitionError: dbt can't parse the project; the text is dbt's.
    """
    target = project / _TARGET
    manifest = target / _MANIFEST
    if _is_current(manifest, project):
        return manifest
    target.mkdir(exist_ok=True)
    with (target / ".parse.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current(manifest, project):
            _parse(project)
    return manifest


def _is_current(manifest: Path, project: Path) -> bool:
    try:
        made_ns = manifest.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return made_ns > max(_changes_ns(project))


def _changes_ns(project: Path) -> Iterator[int]:
    """When each file and folder of the project was changed last; a folder's time tells of removed files."""
    for folder, folders, files in os.walk(project):
        folders[:] = [name for name in folders if name not in _NOT_SOURCES]
        path = Path(folder)
        if path != project:  # in it, target and logs come and go
            yield path.stat().st_mtime_ns
        for name in files:
            yield (path / name).stat().st_mtime_ns


def _parse(project: Path) -> None:
    newest_change_ns = max(_changes_ns(project))
    target = project / _TARGET
    # Beside the old one, since readers must never see half a manifest.
    with tempfile.TemporaryDirectory(dir=target, prefix="parse-") as folder:
        if (target / _PARTIAL_PARSE).exists():
            shutil.copyfile(target / _PARTIAL_PARSE, Path(folder) / _PARTIAL_PARSE)
        done = subprocess.run(  # noqa: S603 - our own project, no shell
            [
                dbt_executable(),
                "--quiet",
                "parse",
                *("--project-dir", str(project)),
                *("--profiles-dir", str(project)),
                *("--target-path", folder),
                *("--log-path", folder),
            ],
            cwd=project,
            # What dbt calls the database is the name of its file, and readers know that one as `current`.
            env={**os.environ, **QUIET, "EVENT_ARCHIVE_BUILD_FILE": f"{folder}/{PUBLISHED_NAME}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise dg.DagsterInvalidDefinitionError(
                f"dbt can't parse the project {project}; correct it and reload.\n{done.stdout}{done.stderr}"
            )
        # A change while dbt was parsing must be seen by the next one who asks.
        made_ns = newest_change_ns + 1
        os.utime(Path(folder) / _MANIFEST, ns=(made_ns, made_ns))
        for name in (_PARTIAL_PARSE, _MANIFEST):
            (Path(folder) / name).replace(target / name)
