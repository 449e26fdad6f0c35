"""The real dbt over Parquet files, as a build runs it: to note what it sends, and to play a few histories with it.

What doesn't live here: the same in memory (`replay`).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.recompute.archived import Positions
from tests.recompute.histories import STREAMS, Commit, Compact, Event, Refresh
from tests.recompute.replay import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dbt.contracts.graph.manifest import Manifest
    from dbt.contracts.graph.nodes import ModelNode

    from tests.recompute.histories import History
    from tests.recompute.replay import Contents


@dataclass
class ParquetArchive:
    """Commits of streams as Parquet files, and snapshots of them."""

    folder: Path
    streams: Sequence[str] = STREAMS
    files: dict[str, dict[Path, int]] = field(default_factory=dict)
    """By stream, each file with the last commit of which it holds anything."""
    positions: Positions = field(default_factory=Positions)

    def commit(self, stream: str, events: Sequence[Event]) -> None:
        """Archives events."""
        self._write(stream, self.positions.rows(stream, events))

    def commit_values(self, stream: str, values: Sequence[bytes | None]) -> None:
        """Archives events of one source."""
        self.commit(stream, [Event(value) for value in values])

    def compact(self, stream: str) -> None:
        """Rewrites all files of a stream into one."""
        if files := self.files.pop(stream, {}):
            self._write(stream, pa.concat_tables([pq.read_table(file) for file in files]), name="compacted")

    def snapshot(self, recent_from: Mapping[str, int] | None = None) -> Path:
        """Pins what has been committed so far.

        Args:
            recent_from: Per stream the commit up to which everybody who reads it has read it; files that end before need not be opened.

        Returns:
            The file that says so.
        """
        streams = {}
        for stream in self.streams:
            files = self.files.get(stream, {})
            consumed = (recent_from or {}).get(stream, -1)
            streams[stream] = {
                "version": self.positions.commits[stream] - 1,
                "files": [str(file) for file in files],
                "recent": {
                    "from": consumed,
                    "files": [str(file) for file, last in files.items() if last > consumed],
                },
            }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "snapshot.json"
        path.write_text(json.dumps({"streams": streams}))
        return path

    def _write(self, stream: str, table: pa.Table, name: str = "commit") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        last = self.positions.commits[stream] - 1
        path = self.folder / f"{stream}-{name}-{last}.parquet"
        pq.write_table(table, path)
        self.files.setdefault(stream, {})[path] = last


@dataclass
class Dbt:
    """A dbt project and the build file that it fills."""

    project: Path
    folder: Path
    threads: int = 1
    _manifest: list[Manifest] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The build file; the database has its name, and many statements have that."""
        return self.folder / "current.duckdb"

    def on(self, folder: Path, threads: int = 1) -> Dbt:
        """The same project, which has been parsed already, and another build file."""
        self.models()
        return Dbt(self.project, folder, threads, self._manifest)

    def models(self) -> dict[str, ModelNode]:
        """What the project says of its models, by id."""
        if not self._manifest:
            result = self._invoke(["parse"], None, ())
            self._manifest.append(result.result)
        nodes: Mapping[str, Any] = self._manifest[0].nodes
        return {node_id: node for node_id, node in nodes.items() if node_id.startswith("model.")}

    def run(
        self, *arguments: str, snapshot: Path, callbacks: Sequence[Callable[[Any], None]] = ()
    ) -> list[str]:
        """Runs dbt in this process; gives a line for each node that did not succeed."""
        self.models()
        result = self._invoke(arguments, snapshot, callbacks)
        if result.exception is not None:
            return [str(result.exception)]
        return [
            f"{outcome.node.name}: {outcome.status}: {outcome.message}"
            for outcome in result.result.results
            if outcome.status not in ("success", "no-op")
        ]

    def play(self, history: History, archive: ParquetArchive) -> None:
        """Lets a history happen to an archive and to the build file; it must not say that a run is killed or that a range is asked for."""
        for step in history:
            if isinstance(step, Commit):
                archive.commit(step.stream, step.events)
            elif isinstance(step, Compact):
                archive.compact(step.stream)
            elif isinstance(step, Refresh):
                self.refresh(archive, step)
            else:
                raise NotImplementedError(step)

    def refresh(self, archive: ParquetArchive, refresh: Refresh) -> None:
        """Runs dbt as a refresh does."""
        assert refresh.killed_after is None
        if refresh.is_thrown_away:
            beside = self.on(self.folder / "thrown_away", self.threads)
            beside.folder.mkdir(parents=True, exist_ok=True)
            if self.file.exists():
                shutil.copy(self.file, beside.file)
            beside.refresh(archive, replace(refresh, is_thrown_away=False))
            beside.file.unlink()
            return
        consumed: dict[str, int] = {}
        if self.file.exists():
            with self.connect() as connection:
                ids = [f"model.event_archive_warehouse.{name}" for name in refresh.stale]
                for node_id, node in self.models().items():
                    if any(_is_made_of(node_id, stale_id, self.models()) for stale_id in ids):
                        connection.execute(
                            "insert into meta.stale values (?, 'its code has changed')", [node.alias]
                        )
                marks = connection.execute(
                    "select stream, min(commit_version) from meta.watermarks group by stream"
                ).fetchall()
                consumed = dict(marks)
        arguments = ["run", *(["--full-refresh"] if refresh.in_full else [])]
        arguments += ["--select", *refresh.select] if refresh.select else []
        problems = self.run(*arguments, snapshot=archive.snapshot(consumed))
        # Some models alone can't be made of inputs that aren't there.
        assert problems == [] or refresh.select, problems

    def contents(self) -> Contents:
        """All rows of all relations."""
        with self.connect() as connection:
            return contents(connection, (f"{node.schema}.{node.alias}" for node in self.models().values()))

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Opens the build file."""
        connection = duckdb.connect(str(self.file))
        connection.execute("set timezone = 'UTC'")
        return connection

    def _invoke(
        self, arguments: Sequence[str], snapshot: Path | None, callbacks: Sequence[Callable[[Any], None]]
    ) -> Any:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # here, as it takes two seconds
        from dbt.cli.main import dbtRunner

        self.folder.mkdir(parents=True, exist_ok=True)
        places = {
            "project-dir": self.project,
            "profiles-dir": self.project,
            "target-path": self.folder / "target",
        }
        where = [word for name, place in places.items() for word in (f"--{name}", str(place))]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EVENT_ARCHIVE_BUILD_FILE", str(self.file))
            patch.setenv("EVENT_ARCHIVE_SNAPSHOT", str(snapshot or ""))
            patch.setenv("EVENT_ARCHIVE_THREADS", str(self.threads))
            patch.setenv("EVENT_ARCHIVE_AT_ONCE", str(self.threads))
            manifest = self._manifest[0].deepcopy() if self._manifest else None  # type: ignore[no-untyped-call]
            quiet = ["--quiet", "--log-level", "none", "--log-level-file", "none", "--no-write-json"]
            result = dbtRunner(manifest, [*callbacks]).invoke([*quiet, *arguments, *where])
            DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
        return result


def _is_made_of(node_id: str, ancestor_id: str, nodes: Mapping[str, ModelNode]) -> bool:
    """Whether a model is another one, or is made of it."""
    return node_id == ancestor_id or any(
        _is_made_of(input_id, ancestor_id, nodes)
        for input_id in nodes[node_id].depends_on.nodes
        if input_id in nodes
    )
