"""A folder with a configuration, an archive that is really ingested, and the dbt project that is scaffolded beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive.archive.snapshot import read_snapshot
from event_archive.config import Config, load_config
from event_archive.ingest import ingest_stream
from tests.dbt_project.conftest import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A project of a user's, as far as it has come."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.folder / "event_archive.yaml"

    @property
    def project(self) -> Path:
        """The dbt project beside it."""
        return self.folder / "dbt_project"

    def config(self) -> Config:
        """The configuration as it stands in the file."""
        return load_config(self.config_file)

    def configure(self, *streams: str) -> None:
        """Writes a configuration with streams of files."""
        lines = ["archive: archive", "warehouse: warehouse", "streams:" if streams else "streams: {}"]
        for name in streams:
            (self.folder / "landing" / name).mkdir(parents=True, exist_ok=True)
            lines += [f"  {name}:", f"    source: {{type: files, path: landing/{name}, format: json_lines}}"]
        self.config_file.write_text("\n".join(lines) + "\n")

    def land(self, stream: str, file: str, events: Iterable[dict[str, Any] | bytes]) -> Path:
        """Puts events into the landing folder of a stream."""
        path = self.folder / "landing" / stream / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_lines(events))
        return path

    def archive(self, stream: str, file: str, events: Iterable[dict[str, Any] | bytes]) -> None:
        """Archives events in a commit of their own."""
        self.land(stream, file, events)
        ingest_stream(self.config(), stream, settled=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the command line in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "event_archive", *arguments],
            cwd=self.folder,
            env={**os.environ, "EVENT_ARCHIVE_CONFIG": str(self.config_file), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def snapshot(self) -> Path:
        """Pins what is archived now, of every stream."""
        config = self.config()
        streams = {}
        for name in config.streams:
            pinned = read_snapshot(config.table(name))
            streams[name] = {"version": pinned.version, "files": pinned.file_paths()}
        path = self.folder / "snapshot.json"
        path.write_text(json.dumps({"streams": streams}))
        return path

    def warehouse(self, name: str) -> Warehouse:
        """A build file that the scaffolded project fills."""
        return Warehouse(self.folder / name, self.project)

    def build(self, name: str) -> Warehouse:
        """Builds and tests everything that is archived now, from nothing, with the real dbt."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        warehouse = self.warehouse(name)
        assert warehouse.dbt("build", snapshot=self.snapshot()) == []
        return warehouse

    def refresh(self, warehouse: Warehouse) -> None:
        """Builds and tests what is new since, with the real dbt."""
        assert warehouse.dbt("build", snapshot=self.snapshot()) == []


def as_lines(events: Iterable[dict[str, Any] | bytes]) -> bytes:
    """Events as JSON lines; bytes as they are."""
    return b"".join(
        (json.dumps(event).encode() if isinstance(event, dict) else event) + b"\n" for event in events
    )


def relations(warehouse: Warehouse) -> list[str]:
    """What has been built but for its bookkeeping, which tells of the way that was taken."""
    return [name for name in warehouse.relations() if not name.startswith("meta.")]
