"""What Dagster sees: assets from configuration and models, joined up, with jobs and schedules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from event_archive.config import load_config
from event_archive.envelope import EVENT_SCHEMA
from event_archive.recompute import manifest
from event_archive.recompute.manifest import manifest_of, sources_hash
from event_archive.warehouse_config import PublishPolicy
from orchestration.assets_warehouse import Publish
from orchestration.dbt_manifest import load_manifest
from orchestration.definitions import build_definitions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.orchestration.conftest import Place

DBT_PROJECT = Path(__file__).parents[2] / "dbt_project"
STREAMS = {dg.AssetKey(["event_archive", "bookings"]), dg.AssetKey(["event_archive", "cart_events"])}
MARTS = {
    "bookings",
    "booking_history",
    "seat_availability",
    "flight_load_daily",
    "cart_events",
    "cart_items",
    "carts",
    "cart_abandonment_daily",
    "product_demand_daily",
}
DAILY = {"flight_load_daily", "cart_abandonment_daily", "product_demand_daily"}


def mart_keys(*marts: str) -> set[dg.AssetKey]:
    """The assets of marts."""
    return {dg.AssetKey(["main", mart]) for mart in marts}


def test_every_mart_goes_back_to_a_stream(place: Place) -> None:
    """The lineage is whole: from each mart over staging to an archived stream, and from each stream to a mart."""
    graph = place.definitions.resolve_asset_graph()
    marts = {dg.AssetKey(["main", mart]) for mart in MARTS}
    assert marts <= graph.materializable_asset_keys
    for mart in marts:
        above = graph.get_ancestor_asset_keys(mart)
        assert above & STREAMS, f"{mart} has no stream above it"
        assert any(key.path[0] == "staging" for key in above)
    for stream in STREAMS:
        assert any(stream in graph.get_ancestor_asset_keys(mart) for mart in marts)
    assert graph.external_asset_keys == set(), "something upstream is not made by any asset here"


def test_streams_and_marts_show_their_columns_with_descriptions(place: Place) -> None:
    """Columns come from the envelope and from the models' own files."""
    graph = place.definitions.resolve_asset_graph()
    for key in [*STREAMS, *(dg.AssetKey(["main", mart]) for mart in MARTS)]:
        node = graph.get(key)
        columns = node.metadata["dagster/column_schema"].columns
        assert columns, key
        assert all(column.description for column in columns), key
        assert node.description, key
        assert not any(re.search(r"(?<!\\)<", column.description) for column in columns), (
            "the UI would take it for a tag"
        )
    stream = graph.get(dg.AssetKey(["event_archive", "bookings"]))
    assert [column.name for column in stream.metadata["dagster/column_schema"].columns] == EVENT_SCHEMA.names


def test_every_dbt_test_is_a_check_on_an_asset(place: Place) -> None:
    """A test that is run but not shown would be an invisible reason to fail."""
    nodes = json.loads(manifest_of(DBT_PROJECT).read_bytes())["nodes"]
    tests = {node["name"] for node in nodes.values() if node["resource_type"] == "test"}
    shown = {key.name for key in place.definitions.resolve_asset_graph().asset_check_keys}
    assert len(tests) > 50
    assert tests - shown == set()


def test_a_new_stream_in_the_configuration_is_a_new_asset(place: Place) -> None:
    """No code is needed: the asset, its checks and its part in the jobs come from the file."""
    file = place.config.path
    with_more = (
        file.read_text(encoding="utf-8")
        + "  payments:\n    source: {type: files, path: data/landing/payments}\n"
    )
    file.write_text(with_more, encoding="utf-8")
    definitions = build_definitions(config=load_config(file))
    graph = definitions.resolve_asset_graph()
    key = dg.AssetKey(["event_archive", "payments"])
    assert key in graph.materializable_asset_keys
    assert {check.name for check in graph.asset_check_keys if check.asset_key == key} == {
        "archive_is_whole",
        "everything_was_read",
    }
    assert key in definitions.resolve_job_def("ingest").asset_layer.executable_asset_keys


def test_the_jobs_do_what_their_names_say(place: Place) -> None:
    """Ingest touches streams only, refresh and rebuild tables only, verify_archive and publish_build select none."""
    repository = place.definitions.get_repository_def()
    names = {"ingest", "refresh", "rebuild", "verify_archive", "publish_build"}
    assert {name for name in repository.job_names if not name.startswith("__")} == names
    jobs = {name: place.definitions.resolve_job_def(name) for name in names}
    selected = {name: set(job.asset_layer.executable_asset_keys) for name, job in jobs.items()}
    assert selected["ingest"] == STREAMS
    assert selected["refresh"] == selected["rebuild"]
    graph = place.definitions.resolve_asset_graph()
    assert selected["refresh"] == graph.materializable_asset_keys - STREAMS - mart_keys(*DAILY)
    assert selected["verify_archive"] == selected["publish_build"] == set()
    assert [name for name, job in jobs.items() if job.partitions_def is not None] == []


def test_jobs_over_tables_select_no_checks(place: Place) -> None:
    """A refresh runs the checks of what it computes. Were all selected, Dagster would show the others as skipped after each refresh."""
    checks = {
        name: place.definitions.resolve_job_def(name).asset_layer.asset_graph.asset_check_keys
        for name in ("ingest", "refresh", "rebuild")
    }
    assert checks["ingest"]
    assert checks["refresh"] == checks["rebuild"] == set()


def test_day_level_tables_have_days_as_partitions_in_a_group_of_their_own(place: Place) -> None:
    """A backfill of any number of days is one run; everything else has no partitions."""
    graph = place.definitions.resolve_asset_graph()
    daily = [graph.get(key) for key in mart_keys(*DAILY)]
    assert {node.group_name for node in daily} == {"daily"}
    assert {node.partitions_def for node in daily} == {daily[0].partitions_def}
    assert isinstance(daily[0].partitions_def, dg.DailyPartitionsDefinition)
    assert {node.backfill_policy for node in daily} == {dg.BackfillPolicy.single_run()}
    assert len({node.assets_def.op.name for node in daily}) == 1
    others = graph.materializable_asset_keys - mart_keys(*DAILY)
    assert [key for key in others if graph.get(key).partitions_def is not None] == []
    assert [key for key in others if graph.get(key).group_name == "daily"] == []


def test_a_project_without_day_level_models_has_no_partitions(
    tmp_path: Path, dbt_project: Path, place_in: Callable[..., Place]
) -> None:
    """As a new one that `event-archive scaffold` makes."""
    for model in (dbt_project / "models/marts").rglob("*_daily.*"):
        model.unlink()
    (dbt_project / "tests/load_is_never_above_capacity.sql").unlink(missing_ok=True)
    graph = place_in(tmp_path, dbt_project=dbt_project).definitions.resolve_asset_graph()
    assert mart_keys(*(MARTS - DAILY)) <= graph.materializable_asset_keys
    assert [key for key in graph.materializable_asset_keys if graph.get(key).partitions_def] == []


def test_a_model_may_read_a_day_level_one_and_a_test_both(
    tmp_path: Path, dbt_project: Path, place_in: Callable[..., Place]
) -> None:
    """Then each of the two steps has something that the other reads; the definitions load all the same, and no check is lost."""
    (dbt_project / "models/marts/shopping_cart/busiest_day.sql").write_text(
        "{{ config(contract={'enforced': false}) }}\n"
        "select max(started_date) as day from {{ ref('cart_abandonment_daily') }}\n",
        encoding="utf-8",
    )
    (dbt_project / "tests/days_and_carts.sql").write_text(
        "select 1 as one from {{ ref('cart_abandonment_daily') }} inner join {{ ref('carts') }} using (started_date) where false\n",
        encoding="utf-8",
    )
    (dbt_project / "tests/carts_and_days.sql").write_text(
        "select 1 as one from {{ ref('carts') }} inner join {{ ref('cart_abandonment_daily') }} using (started_date) where false\n",
        encoding="utf-8",
    )
    definitions = place_in(tmp_path, dbt_project=dbt_project).definitions
    graph = definitions.resolve_asset_graph()
    (day,) = mart_keys("cart_abandonment_daily")
    assert day in graph.get_ancestor_asset_keys(dg.AssetKey(["main", "busiest_day"]))
    checks = {(key.name, key.asset_key.path[-1]) for key in graph.asset_check_keys}
    assert ("days_and_carts", "carts") in checks
    assert ("carts_and_days", "cart_abandonment_daily") in checks
    assert definitions.get_repository_def().get_job("refresh")


def test_the_launchpad_offers_the_policies_of_the_library() -> None:
    """Under the same names."""
    assert {one.name: one.value for one in Publish} == {policy.value: policy for policy in PublishPolicy}


def test_schedules_are_off_until_someone_switches_them_on(place: Place) -> None:
    """Ingest every five minutes, refresh hourly, verify daily; none by default."""
    schedules = {
        schedule.job_name: schedule for schedule in place.definitions.get_repository_def().schedule_defs
    }
    assert {name: schedule.cron_schedule for name, schedule in schedules.items()} == {
        "ingest": "*/5 * * * *",
        "refresh": "10 * * * *",
        "verify_archive": "30 3 * * *",
    }
    assert {schedule.default_status for schedule in schedules.values()} == {dg.DefaultScheduleStatus.STOPPED}


@pytest.mark.parametrize("schedule_name", ["ingest_schedule", "refresh_schedule", "verify_archive_schedule"])
def test_a_schedule_never_queues_behind_its_own_run(place: Place, tmp_path: Path, schedule_name: str) -> None:
    """After an outage one run catches up with everything; a queue of them would be noise."""
    repository = place.definitions.get_repository_def()
    schedule = repository.get_schedule_def(schedule_name)
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        # Closed before the instance is: Dagster keeps what the two share in a global.
        dg.build_schedule_context(instance=instance, repository_def=repository) as context,
    ):
        assert len(schedule.evaluate_tick(context).run_requests or []) == 1
        job = place.definitions.resolve_job_def(schedule.job_name)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        tick = schedule.evaluate_tick(context)
        assert not tick.run_requests
        assert "has not ended" in (tick.skip_message or "")


def test_every_writer_of_the_warehouse_is_in_one_pool_with_limit_one(place: Place) -> None:
    """The op that fills the warehouse has the pool, and the shipped instance settings give every pool one place."""
    graph = place.definitions.resolve_asset_graph()
    pools = {
        tuple(graph.get(key).pools or ()) for key in graph.materializable_asset_keys if key not in STREAMS
    }
    assert pools == {("warehouse",)}
    settings = yaml.safe_load((DBT_PROJECT.parent / "dagster.yaml").read_text(encoding="utf-8"))
    assert settings["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}


def test_the_shipped_instance_settings_are_valid_and_silent(tmp_path: Path) -> None:
    """Dagster takes `dagster.yaml` as it is; telemetry and the invitation to subscribe are off."""
    shutil.copy(DBT_PROJECT.parent / "dagster.yaml", tmp_path)
    settings, _ = dagster_instance_config(str(tmp_path))
    assert settings["telemetry"] == {"enabled": False}
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False


LOAD = """
import json, sys, time
started = time.process_time()
from orchestration.definitions import defs
imported = sorted(name for name in ("great_expectations", "pandas", "deltalake") if name in sys.modules)
definitions = defs()
definitions.resolve_asset_graph()
heavy = sorted(name for name in ("great_expectations",) if name in sys.modules)
print(json.dumps({"seconds": time.process_time() - started, "imported": imported, "heavy": heavy}))
"""


def test_definitions_load_in_less_than_eight_seconds_and_without_great_expectations(place: Place) -> None:
    """With the manifest built ahead, as the second process finds it; Great Expectations alone would take as long.

    Counted in the processor's time, since tests share the machine; alone it is the same as by the clock.
    """
    manifest_of(DBT_PROJECT)
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=DBT_PROJECT.parent,
        env={**os.environ, "EVENT_ARCHIVE_CONFIG": str(place.config.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded["heavy"] == []
    assert loaded["imported"] == []
    assert loaded["seconds"] < 8, loaded


def test_importing_the_definitions_needs_no_configuration(tmp_path: Path) -> None:
    """Nothing is read at import; loading without a configuration says which file is missing."""
    script = (
        "from orchestration.definitions import defs\n"
        "try:\n    defs()\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "EVENT_ARCHIVE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(DBT_PROJECT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConfigurationError" in done.stdout, done.stderr
    assert "event-archive init" in done.stdout


def test_the_manifest_is_made_once_and_again_when_the_project_changes(dbt_project: Path) -> None:
    """A new file, a changed one and a removed one are all seen; nothing changed costs no dbt."""

    def names() -> set[str]:
        nodes = json.loads(manifest_of(dbt_project).read_bytes())["nodes"].values()
        return {node["name"] for node in nodes if node["resource_type"] == "model"}

    before = names()
    made_ns = manifest_of(dbt_project).stat().st_mtime_ns
    started = time.monotonic()
    assert names() == before
    assert time.monotonic() - started < 1
    assert manifest_of(dbt_project).stat().st_mtime_ns == made_ns
    extra = dbt_project / "models/staging/stg_extra.sql"
    extra.write_text("select 1 as one\n", encoding="utf-8")
    assert names() == before | {"stg_extra"}
    extra.unlink()
    assert names() == before


def test_another_version_of_dbt_makes_its_own_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another version has parsed can't be gone on from."""
    before = sources_hash(DBT_PROJECT)
    assert sources_hash(DBT_PROJECT) == before
    monkeypatch.setattr(manifest, "version", lambda package: f"{package} of next year")
    assert sources_hash(DBT_PROJECT) != before


def test_a_project_that_dbt_cannot_parse_says_why(dbt_project: Path) -> None:
    """The error that the UI shows has dbt's own words, and the manifest from before isn't taken for the new one."""
    (dbt_project / "models/staging/broken.sql").write_text(
        "select * from {{ ref('no_such_model') }}\n", encoding="utf-8"
    )
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="no_such_model"):
        load_manifest(dbt_project)
