"""The broker that the other tests trust: it keeps what it acknowledged, dies with its parent, and is the pinned one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicCollection, TopicPartition

from demo.kafka.broker import Kafka, start_kafka
from demo.kafka.configuration import HOST, reserved_port
from demo.kafka.node import KafkaDidNotStart
from demo.kafka.owned_process import OwnedProcess
from demo.kafka.security import Security

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import KafkaError, Message

    from tests.kafka.conftest import CreateTopic, PrivateKafka

ROOT = Path(__file__).parents[2]
QUIET = {"log_level": 0}


def produce(properties: Mapping[str, str], topic: str, values: Iterable[bytes]) -> int:
    """Sends values with acks=all to partition 0; how many were acknowledged."""
    acknowledged = []

    def note(error: KafkaError | None, _: Message) -> None:
        if not error:
            acknowledged.append(1)

    producer = Producer(
        {**properties, **QUIET, "enable.idempotence": True, "linger.ms": 1, "message.max.bytes": 33_000_000}
    )
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=note)
    assert producer.flush(60) == 0
    return len(acknowledged)


def consume(properties: Mapping[str, str], topic: str) -> list[bytes | None]:
    """All values in partition 0."""
    consumer = Consumer(
        {
            **properties,
            **QUIET,
            "group.id": "test",
            "enable.auto.commit": False,
            "fetch.max.bytes": 64_000_000,
        }
    )
    try:
        place = TopicPartition(topic, 0, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=30)
        consumer.assign([place])
        found: list[bytes | None] = []
        while len(found) < end:
            for message in consumer.consume(end - len(found), timeout=30):  # waits for all of them
                assert not message.error()
                assert message.offset() == len(found)
                found.append(message.value())
        return found
    finally:
        consumer.close()


def topic_id(kafka: Kafka, topic: str) -> str:
    """The id that a topic has until it's deleted."""
    admin = kafka.admin()  # collected as garbage, it would take the answer along
    return str(admin.describe_topics(TopicCollection([topic]))[topic].result(30).topic_id)


def numbers(start: int, end: int) -> list[bytes]:
    """Values to recognise."""
    return [b"%d" % i for i in range(start, end)]


def test_records_come_back_as_they_went(kafka: Kafka, topic: str) -> None:
    """Also large ones: 32 MB."""
    values = [b"", b"a", os.urandom(32_000_000), b"z"]
    assert produce(kafka.client_properties, topic, values) == 4
    assert consume(kafka.client_properties, topic) == values


def test_a_topic_is_ready_when_it_is_created(kafka: Kafka, create_topic: CreateTopic) -> None:
    """With many partitions, and its configuration."""
    name = create_topic(100, config={"retention.ms": 12345})
    partitions = kafka.admin().list_topics(name).topics[name].partitions
    assert sorted(partitions) == list(range(100))
    assert all(partition.leader == 1 for partition in partitions.values())


def test_topics_are_never_created_by_themselves(kafka: Kafka) -> None:
    """A misspelt name is an error, not an empty topic."""
    producer = Producer({**kafka.client_properties, **QUIET})
    assert "UNKNOWN_TOPIC" in str(producer.list_topics("misspelt", timeout=30).topics["misspelt"].error)
    assert "misspelt" not in kafka.admin().list_topics().topics


def test_what_was_acknowledged_outlives_kill_9(private_kafka: PrivateKafka) -> None:
    """On the same port, after kill -9, a clean stop, and a freeze."""
    kafka = private_kafka()
    kafka.create_topic("t")
    (node,) = kafka.nodes
    assert produce(kafka.client_properties, "t", numbers(0, 500)) == 500
    node.kill()
    assert not node.is_running
    node.start()
    kafka.wait_until_ready()
    assert produce(kafka.client_properties, "t", numbers(500, 600)) == 100
    assert node.stop()
    node.start()
    kafka.wait_until_ready()
    node.freeze()
    with pytest.raises(KafkaException):
        kafka.admin().list_topics(timeout=0.5)
    node.thaw()
    kafka.wait_until_ready()
    assert consume(kafka.client_properties, "t") == numbers(0, 600)


def test_a_cluster_comes_back_in_its_folder(tmp_path: Path, kafka_is_here: None) -> None:
    """The folder holds all: topics and their ids, too."""
    with start_kafka(tmp_path) as kafka:
        kafka.create_topic("t")
        produce(kafka.client_properties, "t", numbers(0, 10))
    with start_kafka(tmp_path) as kafka:
        assert consume(kafka.client_properties, "t") == numbers(0, 10)


def test_a_broker_restored_from_a_backup_has_less(private_kafka: PrivateKafka, tmp_path: Path) -> None:
    """What was produced after the copy is gone; the cluster knows nothing of that, and topics are what they were."""
    kafka = private_kafka()
    (node,) = kafka.nodes
    kafka.create_topic("t")
    produce(kafka.client_properties, "t", numbers(0, 10))
    node.stop()
    shutil.copytree(node.data_folder, tmp_path / "backup")
    node.start()
    kafka.wait_until_ready()
    produce(kafka.client_properties, "t", numbers(10, 30))
    kafka.create_topic("later")
    before = topic_id(kafka, "t")
    node.kill()
    shutil.rmtree(node.data_folder)
    shutil.copytree(tmp_path / "backup", node.data_folder)
    node.start()
    kafka.wait_until_ready()
    assert consume(kafka.client_properties, "t") == numbers(0, 10)
    assert topic_id(kafka, "t") == before
    assert consume(kafka.client_properties, "later") == []


def test_three_nodes_lose_nothing_with_their_leader(private_kafka: PrivateKafka) -> None:
    """Acknowledged records are on the nodes that stay; the one that comes back has them again."""
    kafka = private_kafka(nodes=3)
    kafka.create_topic("t")
    leader = kafka.leader_of("t")
    assert produce(kafka.client_properties, "t", numbers(0, 500)) == 500
    leader.kill()
    assert produce(kafka.client_properties, "t", numbers(500, 1000)) == 500
    kafka.wait_until_ready()
    assert kafka.leader_of("t") is not leader
    leader.start()
    kafka.wait_until_ready()
    assert consume(kafka.client_properties, "t") == numbers(0, 1000)


@pytest.mark.parametrize(
    "security",
    [
        Security("SASL_PLAINTEXT", mechanism="PLAIN"),
        Security("SASL_PLAINTEXT", mechanism="SCRAM-SHA-256"),
        Security("SASL_SSL", mechanism="SCRAM-SHA-512"),
        Security("SSL", client_certificate=True),
    ],
    ids=lambda security: f"{security.protocol}-{security.mechanism if security.has_sasl else 'certificate'}",
)
def test_a_secured_broker_lets_in_only_whom_it_knows(private_kafka: PrivateKafka, security: Security) -> None:
    """With the right properties a client reads and writes; with a wrong password, or without certificate, nothing."""
    kafka = private_kafka(security=security)
    kafka.create_topic("t")
    assert produce(kafka.client_properties, "t", numbers(0, 10)) == 10
    assert consume(kafka.client_properties, "t") == numbers(0, 10)

    stranger = {**kafka.client_properties, "sasl.password": "guessed"}
    if not security.has_sasl:
        stranger = {
            k: v for k, v in stranger.items() if not k.startswith(("ssl.certificate", "ssl.key", "sasl"))
        }
    reasons: list[str] = []
    client = Consumer(
        {**stranger, **QUIET, "group.id": "t", "error_cb": lambda error: reasons.append(error.str())}
    )
    with pytest.raises(KafkaException):
        client.list_topics(timeout=1)
    for _ in range(20):  # one call back each
        client.poll(0)
    refusal = "Authentication failed" if security.has_sasl else "alert bad certificate"
    assert refusal in "\n".join(reasons)
    with pytest.raises(KafkaException):
        Consumer({"bootstrap.servers": kafka.bootstrap, **QUIET, "group.id": "t"}).list_topics(timeout=0.5)


def test_why_a_broker_did_not_start_is_told(tmp_path: Path, kafka_is_here: None) -> None:
    """The error ends with the broker's own last words."""
    with (
        pytest.raises(
            KafkaDidNotStart, match=r"(?s)node 1 ended while starting.*kafka\.log ends with.*num\.io\.threads"
        ),
        start_kafka(tmp_path, properties={"num.io.threads": 0}),
    ):
        pass


def test_a_port_stays_ours_while_the_node_is_down(private_kafka: PrivateKafka) -> None:
    """Nobody else can take it between a kill and the next start."""
    kafka = private_kafka()
    port = int(kafka.bootstrap.split(":")[1])
    kafka.nodes[0].kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))
    kafka.nodes[0].start()
    kafka.wait_until_ready()


def test_a_reserved_port_is_free_again_afterwards() -> None:
    """The context gives it back."""
    with reserved_port() as port, pytest.raises(OSError, match="in use"), reserved_port(port):
        pass
    with reserved_port(port) as again:
        assert again == port


def test_the_broker_dies_with_its_parent(tmp_path: Path, kafka_is_here: None) -> None:
    """Even if the parent is killed by kill -9, and the broker is frozen."""
    code = (
        "import sys, time, pathlib; from demo.kafka.broker import start_kafka\n"
        "with start_kafka(pathlib.Path(sys.argv[1])) as kafka:\n"
        "    kafka.nodes[0].freeze(); print(kafka.nodes[0].pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        broker = psutil.Process(int(parent.stdout.readline()))
        status = broker.status()
        parent.kill()
    assert status == psutil.STATUS_STOPPED
    _wait_until_gone(broker)


def test_a_command_ends_when_asked_also_where_its_parent_ignores_that(tmp_path: Path) -> None:
    """As everything does that a shell has started in the background, once Dagster has looked at it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        command = OwnedProcess(["sleep", "60"], tmp_path / "log")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert command.end(grace_seconds=10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_runs_until_it_is_told_to_end(
    tmp_path: Path, kafka_is_here: None, number: signal.Signals
) -> None:
    """It prints the address, ends cleanly, and leaves no process behind."""
    with reserved_port() as port:
        pass
    command = [sys.executable, "-m", "demo.kafka.broker", "--folder", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == f"127.0.0.1:{port}\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("java" in child.name() for child in children)
        process.send_signal(number)
        assert process.wait(30) == 0
    for child in children:
        _wait_until_gone(child)


def _wait_until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"still there: {process}"
        time.sleep(0.01)
