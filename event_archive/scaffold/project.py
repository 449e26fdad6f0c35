"""The dbt project that is written into: found, made if there is none, and never overwritten.

What doesn't live here: what the files say (`staging`, `mart`).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import event_archive
from event_archive.config import DBT_PROJECT
from event_archive.durable import storage_errors
from event_archive.errors import EventArchiveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from event_archive.config import Config

# Of the project's own one: all but its models and the tests of these. The file that makes a folder a project comes last: a folder that
# somebody was stopped in the middle of is no project yet, and the next scaffold completes it.
_COPIED = ("profiles.yml", ".sqlfluff", "macros", "plugins", "tests/generic", "dbt_project.yml")


class FilesExist(EventArchiveError):
    """What was to be made is there already, and stays as it is."""


def project_folder(config: Config) -> Path:
    """The dbt project of a configuration: the one that it names, else `dbt_project` beside it; it need not exist."""
    return config.dbt_project or config.path.parent / DBT_PROJECT


def make_project(folder: Path) -> list[Path]:
    """Makes a dbt project without models, if there is none.

    Returns:
        What was made; empty if there is one.

    Raises:
        UsageError: The project's own one, which is copied, isn't beside the installed package.
        StorageError: The disk refused.
    """
    if (folder / "dbt_project.yml").exists():
        return []
    ours = Path(event_archive.__file__).parent.parent / DBT_PROJECT
    if not (ours / "dbt_project.yml").exists():
        raise UsageError(
            f"{folder}: there is no dbt project, and none to copy at {ours}; name one as `dbt_project` in the configuration, "
            "or install event-archive from its repository."
        )
    made = []
    with storage_errors(folder):
        for name in _COPIED:
            source, target = ours / name, folder / name
            if not source.exists() or target.exists():
                continue
            _copy(source, target)
            made.append(target)
        (folder / "models").mkdir(exist_ok=True)
    return made


def _copy(source: Path, target: Path) -> None:
    """Copies a file or a folder whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
        copy = Path(beside) / target.name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy)
        copy.rename(target)


def write_new(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Writes files of which none exists yet.

    Args:
        folder: The dbt project.
        files: Their contents, by path in it.

    Raises:
        FilesExist: Some exist, or models of these names do; nothing was written.
        StorageError: The disk refused; nothing of it is left.
    """
    models = {Path(name).stem for name in files if name.endswith(".sql")}
    taken = [str(folder / name) for name in files if (folder / name).exists()]
    taken += [str(path) for path in model_files(folder) if path.stem in models and str(path) not in taken]
    if taken:
        raise FilesExist(
            "Nothing was written, as there is already: "
            + ", ".join(sorted(taken))
            + ". Choose another name, or move it away first."
        )
    written: list[Path] = []
    try:
        with storage_errors(folder):
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("x", encoding="utf-8") as file:
                    written.append(path)
                    file.write(text)
    except BaseException:
        for path in written:  # only what was made here: half of a stream's models would be no stream
            path.unlink(missing_ok=True)
        raise
    return written


def model_files(folder: Path) -> Iterator[Path]:
    """The SQL files of a project's models."""
    return (folder / "models").rglob("*.sql")


def knows_source(folder: Path, stream: str) -> bool:
    """Whether dbt knows a stream as a source already."""
    return any(
        table.get("name") == stream
        for document in documents(folder)
        for source in _dicts(document.get("sources"))
        if source.get("name") == "event_archive"
        for table in _dicts(source.get("tables"))
    )


def model_document(folder: Path, model: str) -> dict[str, Any] | None:
    """What a project's YAML says of a model."""
    for document in documents(folder):
        for known in _dicts(document.get("models")):
            if known.get("name") == model:
                return known
    return None


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """The YAML files beside a project's models.

    Raises:
        UsageError: One can't be read.
    """
    for path in sorted((folder / "models").rglob("*.y*ml")):
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
            raise UsageError(f"{path}: can't be read as YAML ({' '.join(str(error).split())}).") from error
        if isinstance(document, dict):
            yield document


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
