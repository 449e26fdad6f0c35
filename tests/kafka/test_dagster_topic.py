"""What Dagster shows of a topic: lag and positions of each run, and checks that turn red for real causes."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from confluent_kafka import Producer

from event_archive.status import stream_status
from tests.kafka.dagster_place import KEY, TopicPlace, facts, wait_until_decided
from tests.kafka.topics import QUICK, Event, delete_until, numbered, produce, recreate
from tests.orchestration.conftest import make_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic, PrivateKafka
    from tests.orchestration.conftest import Place

pytestmark = pytest.mark.filterwarnings("default")  # Dagster's betas, which are its own affair
NOWHERE = "127.0.0.1:9"
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def here(project: Project, kafka: Kafka, create_topic: CreateTopic) -> Iterator[TopicPlace]:
    """A project over a new topic of two partitions."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield TopicPlace(project, kafka.bootstrap, create_topic(2), instance)


def lose_events(here: TopicPlace, kafka: Kafka, first: int, until: int) -> None:
    """Lets events come and be deleted by the broker before anybody has read them."""
    produce(here.bootstrap, here.topic, numbered(first, until - first))
    delete_until(kafka.admin(), here.topic, until)


# The asset


def test_an_ingest_says_what_it_read_and_what_waited_before_and_after(here: TopicPlace) -> None:
    """Events, bytes, seconds, lag on both sides, positions of each partition; a second ingest adds nothing."""
    produce(here.bootstrap, here.topic, numbered(0, 30))
    produce(here.bootstrap, here.topic, numbered(0, 12, partition=1))
    ran = here.run("ingest")
    assert ran.succeeded, ran.said
    first = ran.materialized["event_archive/events"]
    assert first["events"] == first["dagster/row_count"] == 42
    assert first["bytes"] > 42 * 20
    assert first["seconds"] > 0
    assert (first["lag before (events)"], first["lag after (events)"]) == (42, 0)
    assert list(first["position (next offset per partition)"].values()) == [30, 12]
    assert "| `0` | `1` | *null* | `30` |" in first["what this run read"]
    assert first["read from"] == f"topic {here.topic} at {here.bootstrap}"
    assert {name: check.passed for name, check in ran.checks.items()} == {
        "event_archive/events:everything_was_read": True,
        "event_archive/events:no_gaps": True,
    }

    produce(here.bootstrap, here.topic, numbered(30, 5))
    second = here.run("ingest").materialized["event_archive/events"]
    assert (second["events"], second["lag before (events)"], second["lag after (events)"]) == (5, 5, 0)
    assert "| `0` | `1` | `30` | `35` |" in second["what this run read"]
    assert "`12`" not in second["what this run read"], "partition 1 had nothing new"

    third = here.run("ingest").materialized["event_archive/events"]
    assert (third["events"], third["commits"], third["dagster/row_count"]) == (0, 0, 47)
    assert "nothing" in third["what this run read"]


def test_a_page_stays_readable_with_many_partitions(
    here: TopicPlace, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Those that moved furthest come first, and the rest is counted."""
    many = TopicPlace(here.project, here.bootstrap, create_topic(60), here.instance)
    for partition in range(60):
        produce(many.bootstrap, many.topic, numbered(0, 9 if partition == 57 else 1, partition=partition))
    shown = many.run("ingest").materialized["event_archive/events"]
    assert shown["partitions"] == 60
    assert shown["position (next offset per partition)"]["and more"] == 10
    assert shown["what this run read"].splitlines()[2] == "| `57` | `1` | *null* | `9` |"
    assert shown["what this run read"].endswith("and 10 more partitions")


def test_the_asset_shows_topic_and_brokers_and_no_property(
    here: TopicPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of properties may be secrets, so nothing of them is in what Dagster keeps."""
    monkeypatch.setenv("KAFKA_CLIENT", "hush-hush")
    source = "properties: {client.id: '${KAFKA_CLIENT}', client.rack: rack-of-gold}"
    place = here.place(source=source)
    shown = place.definitions.resolve_asset_graph().get(KEY).metadata
    assert shown["topic"].value == here.topic
    assert shown["brokers"].value == here.bootstrap
    ran = here.run("ingest", source=source)
    kept = f"{shown} {ran.result.all_events}"
    assert "hush-hush" not in kept
    assert "rack-of-gold" not in kept


def test_partitions_that_contradict_the_archive_fail_the_check_and_the_others_go_on(
    project: Project, private_kafka: PrivateKafka
) -> None:
    """A broker was restored from an old copy, and its offsets were given to other events; the nightly comparison fails too."""
    kafka = private_kafka()
    kafka.create_topic("events", 2)
    produce(kafka.bootstrap, "events", numbered(0, 10))
    with dg.DagsterInstance.ephemeral() as instance:
        here = TopicPlace(project, kafka.bootstrap, "events", instance)
        assert_matches(here)
        (node,) = kafka.nodes
        node.stop()
        copy = node.folder.with_name("copy")
        shutil.copytree(node.folder, copy)
        node.start()
        kafka.wait_until_ready()
        produce(kafka.bootstrap, "events", numbered(10, 40))
        here = TopicPlace(project, kafka.bootstrap, "events", instance)
        assert_matches(here)
        node.stop()
        shutil.rmtree(node.folder)
        shutil.copytree(copy, node.folder)
        node.start()
        kafka.wait_until_ready()

        here = TopicPlace(project, kafka.bootstrap, "events", instance)
        ran = here.run("verify_archive")
        assert not ran.succeeded
        (said,) = ran.said
        assert "ends at offset 10 at the broker, but is archived up to 50" in said

        produce(kafka.bootstrap, "events", [Event(b"others %d" % n) for n in range(90)])
        produce(kafka.bootstrap, "events", numbered(0, 3, partition=1))
        ran = here.run("ingest")
        assert ran.succeeded, "what could be read is archived"
        assert ran.materialized["event_archive/events"]["events"] == 3
        failed = ran.failed_checks["event_archive/events:everything_was_read"]
        assert "another event at offset 49" in str(failed["the first of them"])

        ran = here.run("verify_archive")
        assert not ran.succeeded
        assert ran.checks["event_archive/events:archive_is_whole"].passed
        (said,) = ran.said
        assert "contradict each other" in said
        assert "differs from the archived one in value, timestamp_ms" in said
        failed = ran.failed_checks["event_archive/events:archive_matches_broker"]
        assert failed["contradictions"] == 40, "each of the offsets 10 to 49, and none of 0 to 9"


def assert_matches(here: TopicPlace) -> None:
    """Archives all, and finds it the same at the brokers."""
    assert here.run("ingest").succeeded
    ran = here.run("verify_archive")
    assert ran.succeeded, ran.said


# no_gaps


def test_a_gap_is_red_until_somebody_says_that_it_is_known(here: TopicPlace, kafka: Kafka) -> None:
    """Ingests after it don't hide it, whoever made them; once it's known only later ones count, and it stays listed."""
    produce(here.bootstrap, here.topic, numbered(0, 10))
    assert here.run("ingest").failed_checks == {}
    lose_events(here, kafka, 10, 14)

    ran = here.run("ingest")
    assert ran.succeeded, "the stream goes on"
    failed = ran.failed_checks["event_archive/events:no_gaps"]
    assert (failed["gaps"], failed["not known yet"], failed["offsets in gaps"]) == (1, 1, 4)
    assert "| `0` | `10` | `13` | `4` |" in failed["the newest of them"]
    said = ran.checks["event_archive/events:no_gaps"]
    assert said.severity is ERROR
    assert said.description is not None
    assert "partition 0, offsets 10 to 13." in said.description

    produce(here.bootstrap, here.topic, numbered(14, 1))
    again = here.run("ingest")
    assert again.materialized["event_archive/events"]["events"] == 1
    assert not again.checks["event_archive/events:no_gaps"].passed

    (gap,) = stream_status(here.project.config(), "events").gaps
    known = f"gaps_known_until: {gap.found_at}"
    assert known in said.description, "the remedy can be copied"
    check = here.check("no_gaps", known)
    assert check.passed
    assert facts(check)["gaps"] == 1
    assert "| `10` | `13` |" in facts(check)["the newest of them"]

    lose_events(here, kafka, 15, 17)
    wait_for_the_next_second(gap.found_at)
    here.project.ingest()
    check = here.check("no_gaps", known)
    assert not check.passed
    assert (facts(check)["gaps"], facts(check)["not known yet"]) == (2, 1)
    assert "offsets 15 to 16" in check.description


def wait_for_the_next_second(found_at: str) -> None:
    """Gaps are dated to the second."""
    while dt.datetime.now(dt.UTC) < dt.datetime.fromisoformat(found_at) + dt.timedelta(seconds=1):
        time.sleep(0.01)


def test_gaps_cannot_be_known_before_they_are_found(here: TopicPlace, kafka: Kafka) -> None:
    """A time in the future would silence the check for good."""
    produce(here.bootstrap, here.topic, numbered(0, 10))
    here.run("ingest")
    lose_events(here, kafka, 10, 14)
    assert not here.run("ingest").checks["event_archive/events:no_gaps"].passed
    check = here.check("no_gaps", "gaps_known_until: 2999-01-01T00:00:00Z")
    assert not check.passed
    assert "in the future" in check.description


# lag_below


def test_lag_below_fails_while_too_much_waits(here: TopicPlace) -> None:
    """Five are fewer than six; an ingest takes what waits, and its own check is green again."""
    produce(here.bootstrap, here.topic, numbered(0, 5))
    assert here.check("lag_below", "lag_below: 6").passed
    failed = here.check("lag_below", "lag_below: 5")
    assert not failed.passed
    assert failed.severity is ERROR
    assert "5 events wait" in failed.description
    assert facts(failed)["lag (events)"] == 5
    ran = here.run("ingest", "lag_below: 5")
    assert ran.checks["event_archive/events:lag_below"].passed


def test_lag_below_says_that_an_open_transaction_holds_events_back(here: TopicPlace) -> None:
    """No ingest can take them, and so the check of the ingest itself is red."""
    producer = Producer({"bootstrap.servers": here.bootstrap, "transactional.id": here.topic, **QUICK})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(here.topic, b"undecided", partition=0)
    producer.flush(30)
    produce(here.bootstrap, here.topic, numbered(0, 20))
    ran = here.run("ingest", "lag_below: 5")
    assert ran.succeeded
    assert ran.materialized["event_archive/events"]["events"] == 0
    assert ran.materialized["event_archive/events"]["lag that waits for open transactions"] == 21
    check = ran.checks["event_archive/events:lag_below"]
    assert not check.passed
    assert "21 of them wait for a transaction that is open" in (check.description or "")
    producer.commit_transaction(30)
    wait_until_decided(here)
    assert here.run("ingest", "lag_below: 5").checks["event_archive/events:lag_below"].passed


def test_a_lag_that_nobody_knows_is_a_warning(project: Project) -> None:
    """The ingest is what fails where no broker answers."""
    with dg.DagsterInstance.ephemeral() as instance:
        here = TopicPlace(project, NOWHERE, "events", instance)
        check = here.check("lag_below", "lag_below: 5", "timeout_seconds: 1")
        assert (check.passed, check.severity) == (False, WARN)
        assert "The lag is not known" in check.description
        assert NOWHERE in check.description
        ran = here.run("ingest", "lag_below: 5", "timeout_seconds: 1")
        assert not ran.succeeded
        assert NOWHERE in ran.said[0]


def test_only_topics_have_these_checks_and_a_limit_of_lag_only_where_it_is_asked_for(
    here: TopicPlace,
) -> None:
    """What can't be evaluated isn't shown."""
    of_topics = {"everything_was_read", "archive_is_whole", "no_gaps", "archive_matches_broker"}
    assert checks_of(here.place()) == of_topics
    assert checks_of(here.place("lag_below: 5")) == {*of_topics, "lag_below"}
    here.project.configure()
    of_files = make_place(here.project.folder, config_text=here.project.config_file.read_text("utf-8"))
    assert checks_of(of_files) == {"everything_was_read", "archive_is_whole"}


def checks_of(place: Place) -> set[str]:
    """Names of the stream's checks."""
    return {k.name for k in place.definitions.resolve_asset_graph().asset_check_keys if k.asset_key == KEY}


# archive_matches_broker


def test_a_topic_made_anew_contradicts_the_archive(here: TopicPlace, kafka: Kafka) -> None:
    """Even if it has the same events at the same offsets."""
    produce(here.bootstrap, here.topic, numbered(0, 10))
    assert here.run("ingest").succeeded
    recreate(kafka.admin(), here.topic, 2)
    produce(here.bootstrap, here.topic, numbered(0, 10))
    ran = here.run("verify_archive")
    assert not ran.succeeded
    assert "made anew" in ran.said[0]
    check = ran.checks["event_archive/events:archive_matches_broker"]
    assert (check.passed, check.severity) == (False, ERROR)
    assert ran.checks["event_archive/events:archive_is_whole"].passed


def test_a_comparison_that_nobody_answers_is_a_warning(project: Project, private_kafka: PrivateKafka) -> None:
    """The archive is proved whole all the same, and the run is green."""
    kafka = private_kafka()
    kafka.create_topic("events")
    produce(kafka.bootstrap, "events", numbered(0, 10))
    with dg.DagsterInstance.ephemeral() as instance:
        here = TopicPlace(project, kafka.bootstrap, "events", instance)
        assert here.run("ingest").succeeded
        kafka.stop()
        ran = here.run("verify_archive", source="timeout_seconds: 1")
    assert ran.succeeded, ran.said
    assert ran.checks["event_archive/events:archive_is_whole"].passed
    check = ran.checks["event_archive/events:archive_matches_broker"]
    assert (check.passed, check.severity) == (False, WARN)
    assert "Nothing could be compared" in (check.description or "")


def test_what_the_brokers_have_deleted_is_no_contradiction(here: TopicPlace, kafka: Kafka) -> None:
    """The archive is what is kept; a green check says that nothing was left to compare."""
    produce(here.bootstrap, here.topic, numbered(0, 10))
    assert here.run("ingest").succeeded
    delete_until(kafka.admin(), here.topic, 10)
    ran = here.run("verify_archive")
    assert ran.succeeded, ran.said
    check = ran.checks["event_archive/events:archive_matches_broker"]
    assert check.passed
    assert "Nothing was compared" in (check.description or "")
