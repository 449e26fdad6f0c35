"""What Dagster's runs make of a recompute: nothing new, days, differences, builds that wait, refusals, and being killed."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import psutil
import pytest

from event_archive.errors import ArchiveDamaged, CommitConflict, EventArchiveError, StorageError, UsageError
from event_archive.recompute.as_of import HistoryChanged
from event_archive.recompute.dbt import BuildFailed, DbtKilled, run_dbt
from event_archive.recompute.determinism import ModelGuesses
from event_archive.warehouse import (
    BuildSuperseded,
    WarehouseBusy,
    current_build_id,
    layout,
    published_file,
    read_published,
)
from orchestration import assets_warehouse, reporting, warehouse_step
from orchestration.failures import one_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.orchestration.conftest import Place, Ran

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

REPOSITORY = Path(__file__).parents[2]
CARTS = "models/marts/shopping_cart/carts.sql"
DAILY = {
    "flight_load_daily": "departure_date",
    "cart_abandonment_daily": "started_date",
    "product_demand_daily": "demand_date",
}


def digests(place: Place) -> dict[str, str]:
    """Digest of each published mart."""
    build = read_published(place.config.warehouse)
    assert build is not None
    return {mart.mart: mart.digest for mart in build.marts}


def days_of(file: Path, mart: str) -> dict[str, list[Any]]:
    """The rows of each day."""
    column = DAILY[mart]
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        rows = connection.execute(f"select cast({column} as varchar), * from {mart} order by all").fetchall()
    found: dict[str, list[Any]] = {}
    for day, *row in rows:
        found.setdefault(day, []).append(row)
    return found


def test_a_refresh_with_nothing_new_succeeds_says_so_and_starts_no_dbt(
    built: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither materialisations nor checks nor a new build; what the checks said before stays."""
    build = current_build_id(built.config.warehouse)
    monkeypatch.setattr(warehouse_step, "run_dbt", lambda *_, **__: pytest.fail("dbt was started"))
    ran = built.run("refresh")
    assert ran.succeeded, ran.said
    assert (ran.materialized, ran.checks, ran.observed) == ({}, {}, {})
    assert built.tags(ran)["tables"] == "nothing new"
    assert any(line.startswith("Nothing to do: the tables hold everything") for line in built.log(ran))
    assert current_build_id(built.config.warehouse) == build


def test_a_refresh_marks_the_days_that_have_changed(built: Place) -> None:
    """Each day whose rows are others now, and none that the run has not computed; the log tells of progress by model."""
    before = published_file(built.config.warehouse)
    assert before is not None
    built.land(2)
    assert built.run("ingest").succeeded
    ran = built.run("refresh")
    assert ran.succeeded, ran.said
    assert built.tags(ran)["tables"] == "published"
    now = published_file(built.config.warehouse)
    assert now is not None
    for mart, column in DAILY.items():
        old, new = days_of(before, mart), days_of(now, mart)
        changed = {day for day in {*old, *new} if old.get(day) != new.get(day)}
        marked = ran.days(f"main/{mart}")
        assert changed
        assert changed <= set(marked)
        assert marked == sorted(set(marked))
        with closing(duckdb.connect(str(now), read_only=True)) as connection:
            noted = connection.execute(
                f"select distinct cast({column} as varchar) from meta.changes__{mart} where change_version = "
                f"(select version from meta.models where model = '{mart}')"
            ).fetchall()
        assert set(marked) == {day for (day,) in noted}
    assert any("models and checks; running: " in line and "carts" in line for line in built.log(ran))
    assert {name.split(":")[0] for name in ran.checks} >= {f"main/{mart}" for mart in DAILY}


@pytest.mark.usefixtures("dbt_here")
def test_a_model_that_is_newer_than_the_code_location_is_computed_and_told(
    built: Place, place_in: Callable[..., Place], dbt_project: Path
) -> None:
    """Dagster can't show what it doesn't know; the tables that it knows are published and shown all the same."""
    place = place_in(built.folder, dbt_project=dbt_project)
    (dbt_project / "models/marts/shopping_cart/newer.sql").write_text(
        "{{ config(materialized='incremental', unique_key='cart_id', meta={'level': 'entity'}, contract={'enforced': false}) }}\n"
        "select cart_id, count(*) as events from {{ history('stg_shopping_cart__cart_events') }} group by cart_id\n",
        encoding="utf-8",
    )
    ran = place.run("refresh")
    assert ran.succeeded, ran.said
    assert any("newer; reload the code location" in line for line in place.log(ran)), place.log(ran)
    assert "main/newer" not in ran.materialized
    assert place.query("select count(*) > 0 from newer") == [(True,)]


@pytest.mark.usefixtures("dbt_here")
def test_no_more_days_are_marked_than_dagster_takes_in_some_seconds(
    built: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest of each table; the log says that there are more."""
    monkeypatch.setattr(reporting, "MARKED_DAYS", 6)
    ran = built.run("rebuild")
    assert ran.succeeded, ran.said
    held = sorted(days_of(Path(ran.materialized["main/carts"]["written to"]), "flight_load_daily"))
    assert len(held) > 2
    assert ran.days("main/flight_load_daily") == held[-2:]
    assert any("only the newest 2 of them are marked" in line for line in built.log(ran))


@pytest.mark.usefixtures("dbt_here")
def test_a_backfill_computes_its_days_again_in_one_run_and_no_others(built: Place) -> None:
    """Two days have lost their rows; the backfill of one of them, and of its neighbours, brings back that one."""
    file = published_file(built.config.warehouse)
    assert file is not None
    whole = days_of(file, "flight_load_daily")
    lost, first, healed, *_, last = sorted(whole)
    file.chmod(0o644)
    with closing(duckdb.connect(str(file))) as connection:
        connection.execute("delete from flight_load_daily where departure_date in (?, ?)", [lost, healed])

    ran = built.backfill(["flight_load_daily"], first, last)

    assert ran.succeeded, ran.said
    assert set(ran.materialized) == {"main/flight_load_daily"}
    assert ran.days("main/flight_load_daily")[0] == first
    assert ran.days("main/flight_load_daily")[-1] == last
    now = published_file(built.config.warehouse)
    assert now is not None
    assert days_of(now, "flight_load_daily") == {day: rows for day, rows in whole.items() if day != lost}
    assert {name.split(":")[0] for name in ran.checks} == {"main/flight_load_daily"}
    assert "rows added" in ran.materialized["main/flight_load_daily"]["difference"]


@pytest.mark.usefixtures("dbt_here")
def test_what_was_archived_on_some_days_is_computed_again(built: Place) -> None:
    """From the launchpad, of all tables or of those that are selected; a day without any event is told."""
    today = dt.datetime.now(dt.UTC).date()
    around = f"{today - dt.timedelta(days=1)}..{today + dt.timedelta(days=1)}"
    before = digests(built)

    def again(days: str, **options: Any) -> Ran:
        return built.run(
            "refresh", run_config={"ops": {"warehouse": {"config": {"ingested": days}}}}, **options
        )

    some = again(around, asset_selection=[dg.AssetKey(["main", "carts"])])
    assert some.succeeded, some.said
    assert "main/carts" in some.materialized
    assert "main/bookings" not in some.materialized
    everything = again(around)
    assert everything.succeeded, everything.said
    assert {"main/carts", "main/bookings", "main/flight_load_daily"} <= set(everything.materialized)
    assert digests(built) == before
    (said,) = again("2001-01-01").said
    assert "Nothing was archived from 2001-01-01" in said


def test_a_backfill_before_there_are_tables_says_what_to_do_first(place: Place) -> None:
    """In one sentence, and it isn't tried again."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    ran = place.backfill(["flight_load_daily"], day, day)
    (said,) = ran.said
    assert "refresh` first" in said


@pytest.mark.usefixtures("dbt_here")
def test_a_build_that_differs_waits_where_the_configuration_says_so_and_a_job_publishes_it(
    tmp_path: Path, dbt_project: Path, place_in: Callable[..., Place]
) -> None:
    """The run is green and warns, each mart shows the difference, nothing counts as materialised; then `publish_build`."""
    place = place_in(tmp_path, dbt_project=dbt_project)
    place.land(1)
    for job in ("ingest", "refresh"):
        assert place.run(job).succeeded
    build, before = current_build_id(place.config.warehouse), digests(place)
    model = dbt_project / CARTS
    text = model.read_text(encoding="utf-8")
    model.write_text(
        text.replace("cast(lives.started_at as date)", "cast(lives.started_at as date) + 1"),
        encoding="utf-8",
    )
    assert model.read_text(encoding="utf-8") != text
    place = place_in(tmp_path, dbt_project=dbt_project)
    how = {"ops": {"warehouse": {"config": {"publish": "if_equal"}}}}

    waiting = place.run("refresh", run_config=how)

    assert waiting.succeeded, waiting.said
    assert waiting.materialized == {}
    assert place.tags(waiting)["tables"] == "waiting"
    assert current_build_id(place.config.warehouse) == build
    difference = waiting.observed["main/carts"]["difference"]
    assert re.search(r"^[\d,]+ rows changed \(started_date in [\d,]+\), from build ", difference)
    assert re.search(r"\| `started_date` \| `[\d-]+` \| `[\d-]+` \|", difference)
    assert waiting.observed["main/bookings"]["difference"].startswith("no difference")
    log = "\n".join(place.log(waiting))
    assert "carts is stale and has to be computed in full: its code has changed." in log
    build_id = place.tags(waiting)["build"]
    assert f"`event-archive publish {build_id}`" in log
    assert "`publish_build`" in log

    published = place.run(
        "publish_build", run_config={"ops": {"publish": {"config": {"build_id": build_id}}}}
    )

    assert published.succeeded, published.said
    assert current_build_id(place.config.warehouse) == build_id
    assert set(published.materialized) == {f"main/{mart}" for mart in before}
    assert published.materialized["main/carts"]["digest"] == digests(place)["carts"] != before["carts"]
    assert published.days("main/cart_abandonment_daily")

    # With the code put back: the difference is on the materialisation, since the configuration says `always`.
    model.write_text(text, encoding="utf-8")
    back = place_in(tmp_path, dbt_project=dbt_project).run("refresh")
    assert back.succeeded, back.said
    assert digests(place) == before
    assert "rows changed (started_date in " in back.materialized["main/carts"]["difference"]
    assert "changed" in back.materialized["main/cart_abandonment_daily"]["difference"]


def test_publish_build_refuses_a_name_that_is_none(built: Place) -> None:
    """Whatever is typed into the launchpad never becomes a path."""
    for name in ("20200101T000000000000Z-abcdef", "../../etc/passwd"):
        ran = built.run("publish_build", run_config={"ops": {"publish": {"config": {"build_id": name}}}})
        (said,) = ran.said
        assert "There is no build" in said
        assert not [event for event in ran.result.all_events if event.is_step_up_for_retry]


def test_only_failures_that_may_pass_are_tried_again() -> None:
    """A wrong model is wrong the second time too."""
    may_pass: list[type[EventArchiveError]] = [
        BuildSuperseded, CommitConflict, DbtKilled, StorageError, WarehouseBusy,
    ]  # fmt: skip
    final: list[type[EventArchiveError]] = [
        ArchiveDamaged, BuildFailed, HistoryChanged, ModelGuesses, UsageError,
    ]  # fmt: skip
    for kind in [*may_pass, *final]:
        with pytest.raises(dg.Failure, match="what to do") as failed, one_sentence():
            raise kind("what to do")
        assert failed.value.allow_retries is (kind in may_pass), kind


def test_a_run_whose_dbt_is_killed_half_way_tries_again_and_finishes(
    built: Place, place_in: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see the old tables meanwhile, and the whole new ones after."""
    before, build = digests(built), current_build_id(built.config.warehouse)
    kills: list[str | None] = []

    def run_and_kill(*arguments: Any, on_progress: Any, **options: Any) -> Any:
        def kill(progress: Any) -> None:
            on_progress(progress)
            if progress.done >= 10 and not kills:
                kills.append(current_build_id(built.config.warehouse))
                for child in psutil.Process().children():
                    if "--log-format" in child.cmdline():
                        child.send_signal(signal.SIGKILL)

        return run_dbt(*arguments, on_progress=kill, **options)

    monkeypatch.setattr(warehouse_step, "run_dbt", run_and_kill)
    monkeypatch.setattr(assets_warehouse, "RETRIES", dg.RetryPolicy(max_retries=2, delay=0))
    place = place_in(built.folder)
    ran = place.run("rebuild")
    assert kills == [build]
    assert ran.succeeded, ran.said
    (retry,) = [event for event in ran.result.all_events if event.is_step_up_for_retry]
    assert "dbt was ended from outside (Killed)" in str(retry.step_retry_data.error)
    assert digests(place) == before
    assert current_build_id(place.config.warehouse) != build
    assert list(layout.building_folder(place.config.warehouse).iterdir()) == []


REBUILD = """
import sys
from pathlib import Path
import dagster as dg
from event_archive.config import load_config
from orchestration.definitions import build_definitions
job = build_definitions(config=load_config(Path(sys.argv[1]))).resolve_job_def("rebuild")
with dg.DagsterInstance.ephemeral() as instance:
    job.execute_in_process(instance=instance, raise_on_error=False)
"""


def test_a_run_that_is_killed_half_way_leaves_the_tables_and_the_next_one_finishes(built: Place) -> None:
    """SIGKILL, while dbt is at work: as when the machine goes down."""
    before, build = digests(built), current_build_id(built.config.warehouse)
    run = subprocess.Popen(
        [sys.executable, "-c", REBUILD, str(built.config.path)], cwd=REPOSITORY, env=os.environ
    )
    deadline = time.monotonic() + 240
    try:
        while not (
            found := [
                child for child in psutil.Process(run.pid).children() if "dbt" in " ".join(child.cmdline())
            ]
        ):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.1)
        while not list(layout.building_folder(built.config.warehouse).glob("*/current.duckdb")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    (dbt,) = found
    dbt.kill()
    psutil.wait_procs([dbt], timeout=60)
    assert current_build_id(built.config.warehouse) == build
    assert digests(built) == before
    ran = built.run("rebuild")
    assert ran.succeeded, ran.said
    assert digests(built) == before
    assert list(layout.building_folder(built.config.warehouse).iterdir()) == []
