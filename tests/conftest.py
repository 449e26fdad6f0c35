"""What every test may use: a small project in a temporary folder, and reading the archive back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest

from event_archive.archive.snapshot import read_snapshot
from event_archive.config import Config, load_config
from event_archive.ingest import IngestResult, ingest_stream
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.storage.store import Store

LONG_AGO = 1_000_000_000
_BYTES_PER_WORKER = 3 * 2**30


def pytest_configure() -> None:
    """A shell lets what it runs in the background ignore SIGINT, and Dagster has SIGTERM treated like it: tests' processes could not be ended."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """More processes than cores, where there is memory for them: many tests wait for a broker, or for another process to be late."""
    return max(1, min((os.cpu_count() or 1) + 2, psutil.virtual_memory().total // _BYTES_PER_WORKER))


@dataclass(frozen=True)
class Project:
    """A configured project with one stream, `events`."""

    folder: Path

    @property
    def landing(self) -> Path:
        """The landing folder of the stream."""
        return self.folder / "landing"

    @property
    def table(self) -> Path:
        """The table of the stream."""
        return self.folder / "archive" / "events"

    @property
    def store(self) -> Store:
        """The stream's table as a store."""
        return FolderStore(self.table)

    @property
    def config_file(self) -> Path:
        """The configuration file."""
        return self.folder / "event_archive.yaml"

    def config(self) -> Config:
        """The configuration as it stands in the file."""
        return load_config(self.config_file)

    def configure(self, source: str = "", stream: str = "") -> None:
        """Writes the configuration; arguments are further YAML of the source and the stream."""
        self.config_file.write_text(
            "archive: archive\nwarehouse: warehouse\nstreams:\n  events:\n"
            f"    source: {{type: files, path: landing{source and ', ' + source}}}\n"
            + (f"    {stream}\n" if stream else "")
        )

    def write(self, name: str, data: bytes, *, age_seconds: float = 3600) -> Path:
        """Puts a file into the landing folder, last written to some time ago."""
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        then = path.stat().st_mtime - age_seconds
        os.utime(path, (then, then))
        return path

    def ingest(self, *, settled: bool = False) -> IngestResult:
        """Ingests the stream in this process."""
        return ingest_stream(self.config(), "events", settled=settled)

    def events(self) -> dict[str, list[bytes]]:
        """Archived values of each source, in order of offset; an offset that is double or missing is an error."""
        found: dict[str, dict[int, bytes]] = {}
        for path in read_snapshot(self.store).file_paths():
            with Path(path).open("rb") as file:
                rows = pq.ParquetFile(file).read(columns=["source_id", "source_offset", "value"]).to_pylist()
            for row in rows:
                source = found.setdefault(row["source_id"], {})
                assert row["source_offset"] not in source, f"twice in the archive: {row}"
                source[row["source_offset"]] = row["value"]
        for source_id, values in found.items():
            assert sorted(values) == list(range(len(values))), f"a hole in {source_id}"
        return {source_id: [values[i] for i in sorted(values)] for source_id, values in found.items()}

    def run(self, *arguments: str, timeout_seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs the command line in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "event_archive", *arguments],
            cwd=self.folder,
            env={**os.environ, "EVENT_ARCHIVE_CONFIG": str(self.config_file), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with an empty landing folder."""
    made = Project(tmp_path)
    made.landing.mkdir()
    made.configure()
    yield made
    for path in tmp_path.rglob("*"):  # what a test made unreadable must still be removable
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
