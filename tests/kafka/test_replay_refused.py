"""A replay that would mix up, lose or betray something is refused with a reason, before it writes."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from demo.kafka.security import Security
from event_archive.errors import ArchiveDamaged, StorageError, UsageError
from event_archive.replay.selection import Bounds
from event_archive.replay.target import parse_target
from tests.kafka.replaying import FOREVER, NO_LIMIT, replay
from tests.kafka.topics import QUICK, Event, configure, consumed, numbered, produce

if TYPE_CHECKING:
    from pathlib import Path

    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic, PrivateKafka


def test_a_topic_with_fewer_partitions_is_refused_with_the_remedy(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Before anything is written."""
    topic, target = create_topic(4), create_topic(2)
    configure(project, kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, [*numbered(0, 5), *numbered(0, 5, partition=3)])
    project.ingest()
    done = project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/{target}")
    assert done.returncode == 2
    assert "has 2 partitions, and archived events belong to partition 3" in done.stderr
    assert "--partitions 4" in done.stderr
    assert "--map-partitions hash" in done.stderr
    assert consumed(kafka.bootstrap, target) == {}


def test_a_topic_that_holds_other_events_is_refused_unless_asked_for(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """They might be the very ones that would be written; what an aborted transaction left is none."""
    topic, target = create_topic(), create_topic(config=FOREVER)
    produce(kafka.bootstrap, topic, numbered(0, 10))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    aborting = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": target, **QUICK})
    aborting.init_transactions(30)
    aborting.begin_transaction()
    aborting.produce(target, b"aborted")
    aborting.flush(30)
    aborting.abort_transaction(30)
    assert replay(project, kafka, target).events == 10
    with pytest.raises(UsageError, match=r"with no bounds.*--append"):
        replay(project, kafka, target, Bounds(end={0: 5}))
    assert replay(project, kafka, target, Bounds(end={0: 5}), append=True).events == 5
    assert replay(project, kafka, target).events == 0


def test_the_own_source_is_refused_unless_asked_for(project: Project, kafka: Kafka, topic: str) -> None:
    """Even if the broker has deleted all of it: ingest would take what comes back for new events."""
    produce(kafka.bootstrap, topic, numbered(0, 3))
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    admin = kafka.admin()
    for deleted in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
        deleted.result(30)
    with pytest.raises(UsageError, match="the topic that the stream comes from"):
        replay(project, kafka, topic)


def test_a_topic_that_changes_or_refuses_times_is_refused(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """It says which setting it is; old events in a topic that deletes them are worth a warning."""
    topic = create_topic(config=NO_LIMIT)
    far_ahead = int(time.time() * 1000) + 10**9
    produce(kafka.bootstrap, topic, [Event(b"old", timestamp_ms=1), Event(b"far", timestamp_ms=far_ahead)])
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    with pytest.raises(UsageError, match=r"message\.timestamp\.type"):
        replay(project, kafka, create_topic(config={"message.timestamp.type": "LogAppendTime"}))
    with pytest.raises(UsageError, match=r"message\.timestamp\.after\.max\.ms"):
        replay(project, kafka, create_topic())
    target = create_topic(config={"message.timestamp.after.max.ms": 2**63 - 1})
    assert "deletes events that are older than 7 days" in replay(project, kafka, target).warnings[0]


def test_an_event_that_is_too_large_for_the_topic_is_told(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """And all goes on once the topic takes it."""
    topic, target = create_topic(), create_topic(config={"max.message.bytes": 5000, **FOREVER})
    produce(kafka.bootstrap, topic, [Event(b"small"), Event(random.Random(1).randbytes(20_000))])
    configure(project, kafka.bootstrap, topic)
    project.ingest()
    with pytest.raises(StorageError, match=r"max\.message\.bytes"):
        replay(project, kafka, target)
    assert consumed(kafka.bootstrap, target) == {}
    admin = kafka.admin()
    larger = ConfigEntry("max.message.bytes", "50000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, target, incremental_configs=[larger])
    admin.incremental_alter_configs([resource])[resource].result(30)
    assert replay(project, kafka, target).events == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://{brokers}/no-such-topic-here", "there is no such topic. Make it first"),
        ("kafka://{brokers}", "write kafka://host:port/topic"),
        ("kafka://127.0.0.1:1/events", "Check that the brokers run"),
    ],
)
def test_a_target_that_is_not_there_is_one_sentence(
    url: str, says: str, project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """No topic, no name of one, no broker; and no topic is made by asking for it."""
    topic = create_topic()
    produce(kafka.bootstrap, topic, numbered(0, 1))
    configure(project, kafka.bootstrap, topic, source="timeout_seconds: 4")
    project.ingest()
    done = project.run("replay", "events", "--to", url.format(brokers=kafka.bootstrap))
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "no-such-topic-here" not in kafka.admin().list_topics(timeout=10).topics


def test_secrets_of_the_own_cluster_are_used_and_those_of_another_come_from_a_file(
    project: Project, private_kafka: PrivateKafka, tmp_path: Path
) -> None:
    """They are never shown to other brokers, nor in any message."""
    password = "s3cret-and-long"  # noqa: S105 - of a broker that lives as long as the test
    security = Security("SASL_PLAINTEXT", mechanism="PLAIN", users={"archive": password})
    kafka = private_kafka(security=security)
    for name in ("events", "one", "two"):
        kafka.create_topic(name, config=FOREVER)
    producer = Producer({**kafka.client_properties, **QUICK})
    producer.produce("events", b"v")
    assert producer.flush(30) == 0
    properties = "".join(f"  {name}: {value}\n" for name, value in kafka.security_properties.items())
    configure(project, kafka.bootstrap, "events", source="properties:\n" + properties)
    project.ingest()
    assert (
        project.run("replay", "events", "--to", f"kafka://{kafka.bootstrap}/one", "--check").returncode == 0
    )
    other_name = kafka.bootstrap.replace("127.0.0.1", "localhost")
    config = project.config()
    assert parse_target(config, "events", f"kafka://{other_name}/two", None).properties == {}
    file = tmp_path / "target.yaml"
    file.write_text(properties.replace("  ", ""))
    done = project.run(
        "replay", "events", "--to", f"kafka://{other_name}/two", "--properties", str(file), "--check"
    )
    assert done.returncode == 0, done.stderr
    file.write_text(f"sasl.password: {password}\nplugin.library.paths: {password}\n")
    for text in (f"sasl.password: {password}\nplugin.library.paths: {password}\n", f"[{password}\n"):
        file.write_text(text)
        done = project.run("replay", "events", "--to", f"kafka://{other_name}/two", "--properties", str(file))
        assert (done.returncode, password in done.stderr + done.stdout) == (2, False), done.stderr
        assert str(file) in done.stderr


def test_an_archive_that_is_older_than_its_replay_is_refused(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """One that was restored from a copy has given the same places to other events."""
    topic, target = create_topic(), create_topic(config=FOREVER)
    configure(project, kafka.bootstrap, topic)
    for first in (0, 10):
        produce(kafka.bootstrap, topic, numbered(first, 10))
        project.ingest()
    replay(project, kafka, target)
    newest = max((project.table / "_delta_log").glob("*.json"))
    newest.unlink()
    with pytest.raises(ArchiveDamaged, match="restored from an older copy"):
        replay(project, kafka, target)
