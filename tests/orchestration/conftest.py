"""A small demo of both services, archived and built for real, for the tests of what Dagster does with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from event_archive.config import Config, load_config
from event_archive.recompute import manifest
from event_archive.source_config import FilesSource
from event_archive.warehouse import published_file
from tests.dbt_here import parse_here, run_dbt_here

with warnings.catch_warnings():
    # dagster-dbt imports sqlglot, and that imports sqlglotrs, which warns that it has a successor.
    warnings.filterwarnings("ignore", "sqlglotrs is deprecated", DeprecationWarning)
    from orchestration import warehouse_step
    from orchestration.definitions import build_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation

PROJECT_ROOT = Path(__file__).parents[2]
DBT_PROJECT = PROJECT_ROOT / "dbt_project"
CONFIG = """\
archive: data/archive
warehouse: data/warehouse
streams:
  bookings:
    description: What the flight booking service decided
    source: {type: files, path: data/landing/bookings, settle_seconds: 0}
  cart_events:
    description: What happened to shopping carts
    source: {type: files, path: data/landing/cart_events, settle_seconds: 0}
"""


@dataclass(frozen=True)
class Ran:
    """A run that has ended."""

    result: dg.ExecuteInProcessResult

    @property
    def succeeded(self) -> bool:
        """Whether the run is green."""
        return self.result.success

    @property
    def said(self) -> list[str]:
        """What each failed step said, as the run's page shows it."""
        said = []
        for event in self.result.all_events:
            if event.is_step_failure:
                failure = event.step_failure_data.user_failure_data
                assert failure is not None, event.step_failure_data.error
                said.append(failure.description or "")
        return said

    @property
    def materialized(self) -> dict[str, dict[str, Any]]:
        """Metadata of each asset that the run materialised, by the asset's key."""
        return {
            made.asset_key.to_user_string(): {name: value.value for name, value in made.metadata.items()}
            for event in self.result.get_asset_materialization_events()
            for made in [event.step_materialization_data.materialization]
        }

    def days(self, key: str) -> list[str]:
        """Partitions of an asset that the run materialised, in order."""
        made = [
            event.step_materialization_data.materialization
            for event in self.result.get_asset_materialization_events()
        ]
        return [one.partition for one in made if one.asset_key.to_user_string() == key and one.partition]

    @property
    def observed(self) -> dict[str, dict[str, Any]]:
        """Metadata of what the run said of each asset without materialising it."""
        seen = [
            event.asset_observation_data.asset_observation
            for event in self.result.all_events
            if event.is_asset_observation
        ]
        return {
            one.asset_key.to_user_string(): {name: value.value for name, value in one.metadata.items()}
            for one in seen
        }

    @property
    def checks(self) -> dict[str, AssetCheckEvaluation]:
        """Each check that the run evaluated, by asset key and name: `main/bookings:unique_bookings_booking_id`."""
        return {
            f"{check.asset_key.to_user_string()}:{check.check_name}": check
            for check in self.result.get_asset_check_evaluations()
        }

    @property
    def failed_checks(self) -> dict[str, dict[str, Any]]:
        """Metadata of each check that was not passed."""
        return {
            name: {key: value.value for key, value in check.metadata.items()}
            for name, check in self.checks.items()
            if not check.passed
        }


@dataclass(frozen=True)
class Place:
    """A folder with a configuration, and what Dagster makes of it."""

    folder: Path
    config: Config
    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def landing(self, stream: str) -> Path:
        """The landing folder of a stream."""
        source = self.config.stream(stream).source
        assert isinstance(source, FilesSource)
        return source.path

    def land(self, wave: int) -> None:
        """Let the services deliver one of the three waves of their events."""
        folders = ["--landing", str(self.folder / "data/landing"), "--truth", str(self.folder / "data/truth")]
        waves = ["--waves", "3", "--wave", str(wave)]
        subprocess.run(
            [sys.executable, "-m", "demo.generate", "--events", "2000", "--seed", "7", *folders, *waves],
            cwd=PROJECT_ROOT,
            check=True,
            capture_output=True,
        )

    def run(self, job: str, **options: Any) -> Ran:
        """Run a job to its end, well or not."""
        definition = self.definitions.resolve_job_def(job)
        return Ran(definition.execute_in_process(instance=self.instance, raise_on_error=False, **options))

    def backfill(self, marts: Sequence[str], first: str, last: str) -> Ran:
        """Compute days of marts again, as one run of a backfill in the UI does."""
        keys = [dg.AssetKey(["main", mart]) for mart in marts]
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        job = self.definitions.resolve_implicit_job_def_def_for_assets(keys)
        assert job is not None
        return Ran(
            job.execute_in_process(
                instance=self.instance, raise_on_error=False, asset_selection=keys, tags=tags
            )
        )

    def log(self, ran: Ran) -> list[str]:
        """What a run's log says, without Dagster's own events."""
        return [
            entry.user_message
            for entry in self.instance.all_logs(ran.result.run_id)
            if entry.dagster_event is None
        ]

    def tags(self, ran: Ran) -> Mapping[str, str]:
        """The tags of a run, as the list of runs shows them."""
        run = self.instance.get_run_by_id(ran.result.run_id)
        assert run is not None
        return run.tags

    def query(self, query: str) -> list[Any]:
        """Read the published tables."""
        with closing(
            duckdb.connect(str(published_file(self.config.warehouse)), read_only=True)
        ) as connection:
            return connection.execute(query).fetchall()


def make_place(folder: Path, *, config_text: str = CONFIG, dbt_project: Path = DBT_PROJECT) -> Place:
    """Make a place in a folder."""
    file = folder / "event_archive.yaml"
    file.write_text(config_text, encoding="utf-8")
    config = load_config(file).model_copy(update={"dbt_project": dbt_project})
    for stream in config.streams.values():
        if isinstance(stream.source, FilesSource):
            stream.source.path.mkdir(parents=True, exist_ok=True)
    definitions = build_definitions(config=config)
    return Place(folder, config, definitions, dg.DagsterInstance.ephemeral())


@pytest.fixture
def dbt_project(tmp_path: Path) -> Path:
    """A copy of the dbt project, which a test may break."""
    ignored = shutil.ignore_patterns("target", "logs")
    return Path(shutil.copytree(DBT_PROJECT, tmp_path / "dbt_project", ignore=ignored))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place in which nothing has been done yet."""
    return make_place(tmp_path)


@pytest.fixture
def place_in() -> Callable[..., Place]:
    """For tests that load the definitions again after they have changed something."""
    return make_place


@pytest.fixture
def dbt_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs dbt in the process of the test."""
    monkeypatch.setattr(warehouse_step, "run_dbt", run_dbt_here)
    monkeypatch.setattr(manifest, "_run_dbt_parse", parse_here)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first wave has been archived and built, made by whichever of pytest's workers comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "built_once"
    with (shared / "built_once.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = shared / "being_built"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            made = make_place(making)
            made.land(1)
            for job in ("ingest", "refresh"):
                ran = made.run(job)
                assert ran.succeeded, ran.said
            making.rename(folder)
    return folder


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Place:
    """A place of the test's own where the first wave has been archived and built."""
    folder = Path(shutil.copytree(built_once, tmp_path / "built", symlinks=True))
    return make_place(folder)
