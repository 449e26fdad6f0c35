"""Runs from source to mart, with the real archive, the real dbt and Dagster's own records of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from event_archive.warehouse import current_build_id, layout, published_file, read_published

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.warehouse import BuildRecord
    from tests.orchestration.conftest import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "default"
    ),  # dagster-dbt calls what Dagster deprecates; Great Expectations has its own
]

REPOSITORY = Path(__file__).parents[2]


def published(place: Place) -> BuildRecord:
    """What is published; something must be."""
    build = read_published(place.config.warehouse)
    assert build is not None
    return build


def digests(place: Place) -> dict[str, str]:
    """Digest of each published mart."""
    return {mart.mart: mart.digest for mart in published(place).marts}


def test_an_ingest_says_what_it_read_and_how_far_it_is(place: Place) -> None:
    """Events, bytes, position, lag, rows and paths are on the materialisation; a second ingest adds nothing."""
    place.land(1)
    first = place.run("ingest")
    assert first.succeeded, first.said
    bookings = first.materialized["event_archive/bookings"]
    assert bookings["events"] == bookings["dagster/row_count"] > 100
    assert bookings["bytes"] > 10_000
    assert bookings["lag (files)"] == bookings["lag (bytes)"] == 0
    assert sum(bookings["position (next offset; newest 20 sources)"].values()) > 0
    assert bookings["read from"] == str(place.landing("bookings"))
    assert bookings["written to"] == place.config.table("bookings").url
    assert first.failed_checks == {}
    again = place.run("ingest").materialized["event_archive/bookings"]
    assert again["events"] == 0
    assert again["dagster/row_count"] == bookings["events"]


def test_great_expectations_looks_at_the_newest_events(built: Place) -> None:
    """Its check is part of the ingest, passes on the demo's stream, and shows the few odd events all the same."""
    ran = built.run("ingest")
    for stream in ("bookings", "cart_events"):
        check = ran.checks[f"event_archive/{stream}:newest_events_look_right"]
        assert check.passed
        metadata: dict[str, Any] = {name: value.value for name, value in check.metadata.items()}
        assert metadata["events looked at"] > 100
        assert "expect_column_values_to_be_in_set" in metadata["expectations"]


def test_a_stream_gone_wrong_fails_its_expectations_with_examples(place: Place) -> None:
    """A producer that writes another kind of event is seen at the next ingest, with the event's own position and value."""
    lines = "".join(
        f'{{"event_id": "{n}", "event_type": "seat_sold", "schema_version": 1}}\n' for n in range(50)
    )
    landing = place.landing("bookings")
    (landing / "bad.jsonl").write_text(lines, encoding="utf-8")
    ran = place.run("ingest")
    assert ran.succeeded, "events are archived all the same"
    failed = ran.failed_checks["event_archive/bookings:newest_events_look_right"]
    assert "seat_sold" in failed["examples"]
    assert "file:bad.jsonl @ 4" in failed["examples"]
    assert ran.checks["event_archive/cart_events:newest_events_look_right"].passed


def test_a_source_that_cannot_be_read_shows_as_a_failed_check(place: Place) -> None:
    """What could be read is archived; the check names the file."""
    place.land(1)
    landing = place.landing("bookings")
    (landing / "dangling.jsonl").symlink_to(landing / "nowhere.jsonl")
    ran = place.run("ingest")
    assert ran.succeeded
    assert ran.materialized["event_archive/bookings"]["events"] > 100
    failed = ran.failed_checks["event_archive/bookings:everything_was_read"]
    assert "dangling.jsonl" in str(failed["the first of them"])


def test_rebuild_materialises_every_model_and_evaluates_every_test(built: Place) -> None:
    """All models, all dbt tests as checks; rows, digest, build and a path to what was read are on each mart, and what differs from before."""
    ran = built.run("rebuild")
    assert ran.succeeded, ran.said
    graph = built.definitions.resolve_asset_graph()
    models = {
        key.to_user_string() for key in graph.materializable_asset_keys if key.path[0] != "event_archive"
    }
    assert set(ran.materialized) == models
    expected = {key for key in graph.asset_check_keys if key.asset_key.path[0] != "event_archive"}
    assert set(ran.checks) == {f"{key.asset_key.to_user_string()}:{key.name}" for key in expected}
    mart = ran.materialized["main/bookings"]
    assert mart["dagster/row_count"] == built.query("select count(*) from bookings")[0][0] > 0
    assert mart["digest"] == digests(built)["bookings"]
    assert mart["build"] == current_build_id(built.config.warehouse)
    assert mart["difference"].startswith("no difference, from build ")
    assert Path(mart["read from"]).is_file()
    check = ran.checks["main/bookings:unique_bookings_booking_id"]
    assert check.target_materialization_data is not None
    assert check.target_materialization_data.run_id == ran.result.run_id, (
        "the check is about this run's table"
    )
    assert mart["archive versions"] == dict(built.query("select stream, version from build_streams"))
    for daily in ("flight_load_daily", "cart_abandonment_daily", "product_demand_daily"):
        day, *_ = next(mart.key for mart in published(built).marts if mart.mart == daily)
        held = built.query(f"select cast({day} as varchar), count(*) from {daily} group by 1 order by 1")
        assert ran.days(f"main/{daily}") == [held_day for held_day, _ in held]
        newest = ran.materialized[f"main/{daily}"]
        assert newest["dagster/partition_row_count"] == held[-1][1]
        assert newest["digest"] == digests(built)[daily]


@pytest.mark.usefixtures("dbt_here")
def test_rebuild_gives_the_same_tables_as_all_refreshes_together(built: Place) -> None:
    """Two more waves arrive and are added one by one; a rebuild from the archive alone comes to the same digests."""
    for wave in (2, 3):
        built.land(wave)
        assert built.run("ingest").materialized["event_archive/bookings"]["events"] > 0
        assert built.run("refresh").succeeded
    refreshed = digests(built)
    ran = built.run("rebuild")
    assert ran.succeeded, ran.said
    assert published(built).mode == "rebuild"
    assert digests(built) == refreshed
    assert len(refreshed) == 9


@pytest.mark.usefixtures("dbt_here")
def test_some_models_alone_can_be_rebuilt_and_the_others_stay(built: Place) -> None:
    """What "Materialize" on one asset does in the UI: a rebuild of one mart must not lose the others; with what it reads, as `+carts` does."""
    before = digests(built)
    build = current_build_id(built.config.warehouse)
    graph = built.definitions.resolve_asset_graph()
    (carts,) = [dg.AssetKey(["main", "carts"])]
    ancestors = {key for key in graph.get_ancestor_asset_keys(carts) if key.path[0] != "event_archive"}
    for keys in ([carts], [carts, *ancestors]):
        ran = built.run(
            "refresh",
            asset_selection=keys,
            run_config={"ops": {"warehouse": {"config": {"rebuild": True}}}},
        )
        assert ran.succeeded, ran.said
        assert set(ran.materialized) == {key.to_user_string() for key in keys}
        assert current_build_id(built.config.warehouse) != build
        assert digests(built) == before


@pytest.mark.usefixtures("dbt_here")
def test_a_check_alone_can_be_run_and_publishes_nothing(built: Place) -> None:
    """What "Execute" on a check does in the UI: it looks at a copy of the published tables."""
    build = current_build_id(built.config.warehouse)
    key = dg.AssetCheckKey(dg.AssetKey(["main", "bookings"]), "unique_bookings_booking_id")
    job = built.definitions.get_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={key}
    )
    ran = job.execute_in_process(instance=built.instance, raise_on_error=False)
    assert ran.success
    assert [check.check_name for check in ran.get_asset_check_evaluations() if check.passed] == [key.name]
    assert current_build_id(built.config.warehouse) == build


@pytest.mark.usefixtures("dbt_here")
def test_a_failing_check_leaves_the_published_tables_and_heals_when_it_is_put_right(
    tmp_path: Path, dbt_project: Path, place_in: Callable[..., Place]
) -> None:
    """The run fails with one sentence, shows the failing rows, materialises nothing; the next run succeeds."""
    place = place_in(tmp_path, dbt_project=dbt_project)
    place.land(1)
    assert place.run("ingest").succeeded
    assert place.run("refresh").succeeded
    before = published(place)
    place.land(2)
    assert place.run("ingest").succeeded
    test = dbt_project / "tests/no_cart_is_ever_open.sql"
    test.write_text(
        "select cart_id, status from {{ ref('carts') }} where status = 'open' order by all\n",
        encoding="utf-8",
    )
    place = place_in(tmp_path, dbt_project=dbt_project)

    ran = place.run("refresh")

    assert not ran.succeeded
    (said,) = ran.said
    assert said.startswith("The published tables stay as they were: check no_cart_is_ever_open found ")
    assert said.endswith("run this again.")
    assert "\n" not in said
    assert ran.materialized == {}, "nothing of it is published, so nothing was materialised"
    failed = ran.failed_checks["main/carts:no_cart_is_ever_open"]
    assert "| cart_id | status |" in failed["failing rows"]
    assert "`open`" in failed["failing rows"]
    assert published(place) == before
    assert list(layout.building_folder(place.config.warehouse).iterdir()) == []

    test.unlink()
    place = place_in(tmp_path, dbt_project=dbt_project)
    healed = place.run("refresh")
    assert healed.succeeded, healed.said
    assert current_build_id(place.config.warehouse) != before.build_id


@pytest.mark.usefixtures("dbt_here")
def test_a_model_that_cannot_be_built_is_named_with_the_databases_own_words(
    tmp_path: Path, dbt_project: Path, place_in: Callable[..., Place]
) -> None:
    """The sentence has the model and the line of the error that says most."""
    (dbt_project / "models/staging/stg_broken.sql").write_text(
        "select no_such_column from (select 1 as one)\n", encoding="utf-8"
    )
    place = place_in(tmp_path, dbt_project=dbt_project)
    ran = place.run("refresh")
    (said,) = ran.said
    assert "model stg_broken could not be built" in said
    assert "no_such_column" in said
    assert "\n" not in said
    assert published_file(place.config.warehouse) is None


@pytest.mark.usefixtures("dbt_here")
def test_damage_fails_the_verification_and_restoring_the_file_heals_it(built: Place, tmp_path: Path) -> None:
    """The run is red, the check names the file, the sentence says what to do; after the backup is put back all is green."""
    assert built.run("verify_archive").succeeded
    data_file = next(Path(built.config.table("bookings").url).glob("ingest_date=*/*.parquet"))
    backup = Path(shutil.copy2(data_file, tmp_path))
    damaged = bytearray(data_file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    data_file.chmod(0o644)
    data_file.write_bytes(damaged)
    try:
        ran = built.run("verify_archive")
        assert not ran.succeeded
        (said,) = ran.said
        assert data_file.name in said
        assert "restore" in said
        assert data_file.name in str(
            ran.failed_checks["event_archive/bookings:archive_is_whole"]["the first of them"]
        )
        assert ran.checks["event_archive/cart_events:archive_is_whole"].passed
    finally:
        shutil.copy2(backup, data_file)
    assert built.run("verify_archive").succeeded


def test_a_damaged_log_stops_ingest_and_refresh_with_the_librarys_sentence(place: Place) -> None:
    """Nothing is built on a damaged archive, and no traceback is shown for it."""
    place.land(1)
    assert place.run("ingest").succeeded
    entry = Path(place.config.table("bookings").url) / "_delta_log" / f"{1:020}.json"
    entry.chmod(0o644)
    entry.write_bytes(b"")
    for job in ("ingest", "refresh"):
        ran = place.run(job)
        assert not ran.succeeded
        assert any(entry.name in said for said in ran.said), ran.said
    assert published_file(place.config.warehouse) is None


RUN = """
import sys
from pathlib import Path
import dagster as dg
from event_archive.config import load_config
from orchestration.definitions import build_definitions
job = build_definitions(config=load_config(Path(sys.argv[1]))).resolve_job_def(sys.argv[2])
with dg.DagsterInstance.get() as instance:
    result = job.execute_in_process(instance=instance, raise_on_error=False)
for event in result.all_events:
    if event.is_step_failure:
        print(event.step_failure_data.user_failure_data or event.step_failure_data.error)
sys.exit(0 if result.success else 1)
"""


def test_two_runs_at_once_build_one_after_the_other(built: Place, tmp_path: Path) -> None:
    """With the shipped instance settings both succeed: the pool lets the second wait for the first."""
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:  # its databases are made here, once
        assert instance.run_storage.get_runs_count() == 0
    before = current_build_id(built.config.warehouse)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(built.config.path), job],
            cwd=REPOSITORY,
            env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for job in ("refresh", "rebuild")
    ]
    said = [run.communicate(timeout=300)[0][-2000:] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n\n".join(said)
    assert published(built).build_id != before
    assert built.query("select based_on is not null from build_info") == [(True,)]
