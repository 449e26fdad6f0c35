"""Lag starts an ingest: of that stream alone, one at a time, and not over and over where it can't help."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from confluent_kafka import Producer

from tests.kafka.dagster_place import KEY, TopicPlace, wait_until_decided
from tests.kafka.topics import QUICK, numbered, produce, recreate
from tests.orchestration.conftest import Ran, make_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic
    from tests.orchestration.conftest import Place

pytestmark = pytest.mark.filterwarnings("default")  # Dagster's betas, which are its own affair
SENSOR = "ingest_events_when_lag_is_high"
STREAM = "ingest_when_lag_above: 10"


@pytest.fixture
def here(project: Project, kafka: Kafka, create_topic: CreateTopic, tmp_path: Path) -> Iterator[TopicPlace]:
    """A project over a new topic, with Dagster's records on the disk."""
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield TopicPlace(project, kafka.bootstrap, create_topic(), instance)


def beside_another_stream(here: TopicPlace) -> Place:
    """The stream of the topic, and one of files."""
    text = here.place(STREAM).config.path.read_text("utf-8")
    text += "  others:\n    source: {type: files, path: landing}\n"
    return replace(make_place(here.project.folder, config_text=text), instance=here.instance)


def tick(place: Place, cursor: str | None = None) -> dg.SensorExecutionData:
    """Lets the sensor look once."""
    repository = place.definitions.get_repository_def()
    with dg.build_sensor_context(
        instance=place.instance, repository_def=repository, cursor=cursor
    ) as context:
        return repository.get_sensor_def(SENSOR).evaluate_tick(context)


def skipped(data: dg.SensorExecutionData) -> str:
    """Why nothing was started."""
    assert not data.run_requests
    return str(data.skip_message)


def run(place: Place, data: dg.SensorExecutionData) -> Ran:
    """Runs what was asked for."""
    assert data.run_requests is not None
    (request,) = data.run_requests
    job = place.definitions.resolve_job_def("ingest").get_subset(
        asset_selection=set(request.asset_selection or ()),
        asset_check_selection=set(request.asset_check_keys or ()),
    )
    return Ran(job.execute_in_process(instance=place.instance, raise_on_error=False))


def test_an_ingest_of_that_stream_alone_starts_once_the_lag_is_above_the_threshold(
    here: TopicPlace,
) -> None:
    """Ten events are not more than ten; eleven are. The stream's checks are part of the run, other streams are not."""
    place = beside_another_stream(here)
    produce(here.bootstrap, here.topic, numbered(0, 10))
    assert skipped(tick(place)) == "10 events wait, and an ingest is started above 10."

    produce(here.bootstrap, here.topic, numbered(10, 1))
    ran = run(place, tick(place))

    assert ran.succeeded, ran.said
    assert list(ran.materialized) == ["event_archive/events"]
    assert ran.materialized["event_archive/events"]["events"] == 11
    assert set(ran.checks) == {"event_archive/events:everything_was_read", "event_archive/events:no_gaps"}
    assert skipped(tick(place)).startswith("0 events wait")


def test_the_sensor_is_there_only_where_it_is_asked_for_and_off_at_first(here: TopicPlace) -> None:
    """As the schedules are."""
    assert here.place().definitions.get_repository_def().sensor_defs == []
    (sensor,) = here.place(STREAM).definitions.get_repository_def().sensor_defs
    assert sensor.name == SENSOR
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED


def test_runs_do_not_pile_up(here: TopicPlace) -> None:
    """Whoever started the run that is under way; a run that is about something else doesn't count."""
    place = beside_another_stream(here)
    produce(here.bootstrap, here.topic, numbered(0, 50))
    others = frozenset([dg.AssetKey(["event_archive", "others"])])
    ingest = place.definitions.resolve_job_def("ingest")
    verify = place.definitions.resolve_job_def("verify_archive")
    here.instance.create_run_for_job(ingest, asset_selection=others, status=dg.DagsterRunStatus.STARTED)
    here.instance.create_run_for_job(verify, status=dg.DagsterRunStatus.STARTED)
    here.instance.create_run_for_job(ingest, status=dg.DagsterRunStatus.FAILURE)
    assert len(tick(place).run_requests or ()) == 1

    for asset_selection in (None, frozenset([KEY])):
        for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED):
            under_way = here.instance.create_run_for_job(
                ingest, asset_selection=asset_selection, status=status
            )
            assert skipped(tick(place)) == "An ingest of events is under way."
            here.instance.delete_run(under_way.run_id)
    everything = place.definitions.get_implicit_global_asset_job_def()
    here.instance.create_run_for_job(
        everything, asset_selection=frozenset([KEY]), status=dg.DagsterRunStatus.STARTED
    )
    assert "under way" in skipped(tick(place)), "as the Materialize button of the asset starts it"


def test_brokers_that_do_not_answer_are_skipped_with_that_reason(here: TopicPlace) -> None:
    """Each look says so, and none fails."""
    nowhere = TopicPlace(here.project, "127.0.0.1:9", here.topic, here.instance)
    said = skipped(tick(nowhere.place(STREAM)))
    assert "The lag is not known" in said
    assert "127.0.0.1:9" in said
    produce(here.bootstrap, here.topic, numbered(0, 50))
    assert tick(here.place(STREAM)).run_requests


def test_an_ingest_that_committed_nothing_is_not_repeated_at_once(here: TopicPlace) -> None:
    """Its run says why; after a while another one is tried."""
    place = here.place(STREAM)
    produce(here.bootstrap, here.topic, numbered(0, 50))
    first = tick(place)
    assert first.run_requests
    assert "has committed nothing" in skipped(tick(place, first.cursor))
    started = json.loads(first.cursor or "")
    for seconds in (301, -1000):  # later, or the clock was put back
        cursor = json.dumps({**started, "at": started["at"] - seconds})
        assert tick(place, cursor).run_requests
    run(place, first)
    produce(here.bootstrap, here.topic, numbered(50, 50))
    assert tick(place, first.cursor).run_requests, "what came since is no repetition"


def test_events_of_an_open_transaction_start_nothing(here: TopicPlace) -> None:
    """No ingest could take them."""
    producer = Producer({"bootstrap.servers": here.bootstrap, "transactional.id": here.topic, **QUICK})
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(30):
        producer.produce(here.topic, b"undecided")
    producer.flush(30)
    place = here.place(STREAM)
    assert "30 of them wait for a transaction that is open" in skipped(tick(place))
    producer.commit_transaction(30)
    wait_until_decided(here)
    assert tick(place).run_requests


def test_a_topic_made_anew_is_for_the_ingest_to_report(here: TopicPlace, kafka: Kafka) -> None:
    """A skipped look is seen by nobody; a failed run is."""
    place = here.place(STREAM)
    produce(here.bootstrap, here.topic, numbered(0, 11))
    assert run(place, tick(place)).succeeded
    recreate(kafka.admin(), here.topic)
    data = tick(place)
    ran = run(place, data)
    assert not ran.succeeded
    assert "made anew" in ran.said[0]
    assert "has committed nothing" in skipped(tick(place, data.cursor))
