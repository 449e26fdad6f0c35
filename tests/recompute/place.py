"""A shop: two streams that are really ingested, a dbt project of eight small models, and recomputing it, with dbt in this process.

What doesn't live here: tests. The models are in `shop/`; macros, plugin and profile are the project's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from event_archive.config import Config, load_config
from event_archive.ingest import ingest_stream
from event_archive.recompute.request import Request
from event_archive.recompute.run import DBT, Recomputed, build_environment, recompute
from event_archive.warehouse import Build, published_file, read_published
from tests.dbt_here import parse_here, run_dbt_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.project import Project

REPOSITORY = Path(__file__).parents[2]
DBT_PROJECT = REPOSITORY / "dbt_project"
SHOP = Path(__file__).with_name("shop")
STREAMS = ("orders", "visits")
REBUILD = Request(is_rebuild=True)
REFRESH = Request()


@dataclass(frozen=True)
class Place:
    """A folder with a configuration, an archive, a warehouse and the shop's models."""

    folder: Path

    @property
    def project(self) -> Path:
        """The dbt project."""
        return self.folder / "dbt_project"

    @property
    def warehouse(self) -> Path:
        """The warehouse."""
        return self.folder / "warehouse"

    @property
    def config_file(self) -> Path:
        """The configuration file."""
        return self.folder / "event_archive.yaml"

    @property
    def published(self) -> Path:
        """The file that readers open."""
        file = published_file(self.warehouse)
        assert file is not None
        return file

    @property
    def live(self) -> str:
        """The published build."""
        return self.published.stem

    def config(self) -> Config:
        """The configuration as it stands in the file."""
        return load_config(self.config_file)

    def configure(self, *lines: str, streams: Sequence[str] = STREAMS, archive: str = "archive") -> None:
        """Writes the configuration; arguments are further lines of YAML."""
        text = [f"archive: {archive}", "warehouse: warehouse", *lines, "streams:"]
        for stream in streams:
            text += [f"  {stream}:", f"    source: {{type: files, path: landing/{stream}}}"]
            (self.folder / "landing" / stream).mkdir(parents=True, exist_ok=True)
        self.config_file.write_text("\n".join(text) + "\n")

    def archive(self, stream: str, events: Iterable[dict[str, Any] | bytes]) -> None:
        """Archives events of a stream in a commit of their own."""
        landing = self.folder / "landing" / stream
        lines = [json.dumps(event).encode() if isinstance(event, dict) else event for event in events]
        number = len(list(landing.iterdir()))
        (landing / f"{number:04}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        ingest_stream(self.config(), stream, settled=True)

    def edit(self, file: str, old: str, new: str) -> None:
        """Changes a file of the dbt project."""
        path = self.project / file
        text = path.read_text()
        assert old in text, (old, text)
        path.write_text(text.replace(old, new))

    def recompute(self, request: Request = REFRESH, **options: Any) -> Recomputed:
        """Recomputes with dbt in this process, which spares it its start."""
        config = self.config()
        options = {"built_by": "a test", "fill": partial(dbt_in_this_process, config), **options}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("event_archive.recompute.manifest._run_dbt_parse", parse_here)
            return recompute(config, request, **options)

    def run(self, *arguments: str, expect: int = 0, timeout_seconds: float = 120) -> str:
        """Runs the command line in a process of its own; gives what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "event_archive", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == expect, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if expect == 0 else done.stdout + done.stderr

    def environment(self) -> dict[str, str]:
        """Of commands."""
        return {**os.environ, "EVENT_ARCHIVE_CONFIG": str(self.config_file), "COLUMNS": "200"}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query over what is published."""
        with closing(duckdb.connect(str(self.published), read_only=True)) as connection:
            return connection.execute(query).fetchall()

    def contents(self, file: Path | None = None) -> dict[str, list[str]]:
        """All rows of all tables and views of a file but for what it says of itself; by default of the published one."""
        with closing(duckdb.connect(str(file or self.published), read_only=True)) as connection:
            connection.execute("set timezone = 'UTC'")
            names = connection.execute(
                "select schema_name || '.' || name from ("
                "select schema_name, table_name as name from duckdb_tables() "
                "union all select schema_name, view_name from duckdb_views() where not internal) "
                "where schema_name <> 'meta' and not starts_with(name, 'build_')"
            ).fetchall()
            return {
                name: sorted(map(repr, connection.execute(f"from {name}").fetchall())) for (name,) in names
            }

    def rebuilt(self) -> dict[str, list[str]]:
        """What a rebuild of all that is archived gives; what is published stays."""
        file = self.folder / f"rebuilt-{len(list(self.folder.glob('rebuilt-*')))}.duckdb"
        self.recompute(Request(is_rebuild=True, into=file))
        return self.contents(file)

    def digests(self) -> dict[str, str]:
        """Of the marts that are published."""
        record = read_published(self.warehouse)
        assert record is not None
        return {mart.mart: mart.digest for mart in record.marts}


def new_place(folder: Path) -> Place:
    """Makes a place without events."""
    place = Place(folder)
    place.configure()
    shutil.copytree(
        DBT_PROJECT,
        place.project,
        ignore=shutil.ignore_patterns("target", "logs", "models", "tests", "__pycache__", "*.md"),
    )
    for part in ("staging", "marts"):
        shutil.copytree(SHOP / part, place.project / "models" / part)
    shutil.copytree(SHOP / "tests", place.project / "tests")
    shutil.copy(SHOP / "in_cents.sql", place.project / "macros")
    return place


def orders(first: int, last: int, *, customers: int = 3, days: int = 4) -> list[dict[str, Any]]:
    """Orders by number, of a few customers on a few days."""
    return [
        {
            "event_id": f"o{number}",
            "order_id": f"order {number}",
            "customer": f"customer {number % customers}",
            "ordered_on": f"2024-01-{1 + number % days:02}",
            "amount": number,
        }
        for number in range(first, last)
    ]


def visits(first: int, last: int, *, customers: int = 5) -> list[dict[str, Any]]:
    """Visits by number, of a few customers."""
    return [
        {"event_id": f"v{number}", "customer": f"customer {number % customers}"}
        for number in range(first, last)
    ]


def dbt_in_this_process(config: Config, project: Project, build: Build, arguments: Sequence[str]) -> DbtRun:
    """Fills a build as `recompute` does, without a process of its own."""
    return run_dbt_here(
        project.folder, arguments, environment=build_environment(config, build), target=build.folder / DBT
    )
