"""Starts and stops a real Kafka cluster (KRaft, one process per node) on loopback; the jars come from `jars.py`.

    with start_kafka(folder) as kafka:
        Producer({"bootstrap.servers": kafka.bootstrap})

In a shell: `python -m demo.kafka.broker --folder F` runs one until Ctrl-C.

`folder/node-<id>/` holds all of a node: `data/` (topics), `metadata/` (the cluster's own log), `kafka.log`. Started
again on the same folder, the cluster has its data again, on other ports.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from demo.kafka import installation
from demo.kafka.configuration import HOST, cluster_properties, listener_properties, reserved_port
from demo.kafka.jars import KafkaUnavailable
from demo.kafka.node import POLL_SECONDS, KafkaDidNotStart, Node, new_kafka_id
from demo.kafka.security import Security, make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from confluent_kafka.admin import AdminClient

# A small heap and no optimising compiler: such a broker is up in a second and runs beside a test suite.
SMALL_JVM = ("-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class Kafka:
    """A running cluster; made by `start_kafka`.

    Attributes:
        nodes: Its nodes; any of them may be stopped, killed, frozen and started again.
        bootstrap: The addresses for clients, `127.0.0.1:port,…`.
        plain_bootstrap: Addresses where no security is asked for; the same where there is none.
        security_properties: What librdkafka needs to connect to `bootstrap`; empty where there is no security.
    """

    nodes: Sequence[Node]
    bootstrap: str
    plain_bootstrap: str
    security_properties: Mapping[str, str]

    @property
    def client_properties(self) -> dict[str, str]:
        """What librdkafka needs to connect."""
        return {"bootstrap.servers": self.bootstrap, **self.security_properties}

    def admin(self) -> AdminClient:
        """A new admin client, which needs no password."""
        from confluent_kafka.admin import AdminClient

        patience = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}
        return AdminClient({"bootstrap.servers": self.plain_bootstrap, "log_level": 0, **patience})

    def wait_until_ready(self, timeout_seconds: float = 120) -> None:
        """Waits until all running nodes serve and know each other, and every partition on them has leader and replicas.

        Raises:
            KafkaDidNotStart: A node ended while starting, or it took too long.
        """
        deadline = time.monotonic() + timeout_seconds
        for node in self._serving():
            node.finish_start(deadline - time.monotonic())
        self._wait(self.admin(), deadline)

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        *,
        config: Mapping[str, object] | None = None,
        timeout_seconds: float = 60,
    ) -> None:
        """Creates a topic and waits until every partition has a leader."""
        from confluent_kafka.admin import NewTopic

        admin = self.admin()
        topic = NewTopic(name, partitions, config={key: str(value) for key, value in (config or {}).items()})
        admin.create_topics([topic], request_timeout=timeout_seconds)[name].result(timeout_seconds)
        self._wait(admin, time.monotonic() + timeout_seconds, topic=name)

    def leader_of(self, topic: str, partition: int = 0) -> Node:
        """The node that leads a partition, as far as the cluster knows (`wait_until_ready` after a node went)."""
        leader = self.admin().list_topics(topic, timeout=30).topics[topic].partitions[partition].leader
        return next(node for node in self.nodes if node.id == leader)

    def stop(self, grace_seconds: float = 60) -> None:
        """Shuts all nodes down, cleanly where that's possible in time."""
        for node in self.nodes:
            node.ask_to_stop()
        deadline = time.monotonic() + grace_seconds
        for node in self.nodes:
            node.stop(max(deadline - time.monotonic(), 0.001))

    def kill(self) -> None:
        """Ends all nodes as `kill -9` does."""
        for node in self.nodes:
            node.kill()

    def _serving(self) -> list[Node]:
        return [node for node in self.nodes if node.is_running and not node.is_frozen]

    def _wait(self, admin: AdminClient, deadline: float, *, topic: str | None = None) -> None:
        serving = self._serving()
        while missing := self._missing(admin, topic):
            if time.monotonic() > deadline or (self.nodes and not serving):
                tails = [node.log_tail() for node in self.nodes]
                raise KafkaDidNotStart("\n".join([f"not ready: {missing}", *tails]))
            for node in serving:
                if not node.is_running:
                    raise KafkaDidNotStart(f"node {node.id} ended; {node.log_tail()}")
            time.sleep(POLL_SECONDS)

    def _missing(self, admin: AdminClient, only_topic: str | None) -> str:
        """What isn't ready yet, in words; empty if nothing."""
        from confluent_kafka import KafkaException

        try:
            metadata = (
                admin.list_topics(only_topic, timeout=2) if only_topic else admin.list_topics(timeout=2)
            )
        except KafkaException as error:
            return str(error)
        expected = {node.id for node in self._serving()} if self.nodes else set(metadata.brokers)
        if absent := expected - metadata.brokers.keys():
            return f"nodes {sorted(absent)} aren't in the cluster"
        for topic in metadata.topics.values():
            if topic.error or not topic.partitions:
                return f"{topic.topic} isn't there: {topic.error}"
            for partition in topic.partitions.values():
                replicas = expected & set(partition.replicas)
                if replicas and partition.leader not in expected:
                    return f"{topic.topic}[{partition.id}] has no leader"
                if not replicas <= set(partition.isrs):
                    return f"{topic.topic}[{partition.id}] isn't in sync"
        return ""


@contextlib.contextmanager
def start_kafka(
    folder: Path,
    *,
    nodes: int = 1,
    properties: Mapping[str, object] | None = None,
    security: Security | None = None,
    port: int | None = None,
    jvm_options: Sequence[str] = SMALL_JVM,
) -> Iterator[Kafka]:
    """Runs a cluster for as long as the context lasts; waits until it's ready.

    Args:
        folder: Holds all data; a folder used before brings its data back.
        nodes: How many; each is controller and broker. With three, topics have three replicas by default.
        properties: Broker configuration, stronger than that of `configuration.py`.
        security: What clients must do to connect; nothing if not given. The nodes trust each other.
        port: Port for clients of the first node; the next nodes have the next ports. Free ones if not given.
        jvm_options: For each node, instead of the small heap that suits tests.

    Raises:
        KafkaUnavailable: This machine can't run Kafka.
        KafkaDidNotStart: It should have run but didn't.
    """
    folder = folder.absolute()
    installed = installation.installed()
    certificates = make_certificates(folder / "certificates") if security and security.has_tls else None
    with contextlib.ExitStack() as held:
        client_ports = [held.enter_context(reserved_port(port and port + i)) for i in range(nodes)]
        controller_ports = [held.enter_context(reserved_port()) for _ in range(nodes)]
        plain_ports = (
            [held.enter_context(reserved_port()) for _ in range(nodes)] if security else client_ports
        )
        cluster_id = _cluster_id(folder)
        cluster = cluster_properties(controller_ports)
        if security:
            cluster |= security.broker_properties("CLIENTS", certificates)
        made = []
        for i in range(nodes):
            ports = {"CONTROLLER": controller_ports[i], "PLAIN": plain_ports[i]}
            if security:
                ports["CLIENTS"] = client_ports[i]
            listeners = listener_properties(ports, {"CLIENTS": security.protocol} if security else {})
            node = Node(i + 1, folder / f"node-{i + 1}", installed.java_command(jvm_options))
            node.prepare({**cluster, **listeners, **(properties or {})}, cluster_id, installed.empty_metadata)
            made.append(node)
        kafka = Kafka(
            nodes=made,
            bootstrap=_addresses(client_ports),
            plain_bootstrap=_addresses(plain_ports),
            security_properties=security.client_properties(certificates) if security else {},
        )
        held.callback(kafka.kill)
        for node in made:
            node.begin_start()
        kafka.wait_until_ready()
        if security:
            security.add_users(kafka.admin())
        yield kafka
        kafka.stop(grace_seconds=10)


def _addresses(ports: Sequence[int]) -> str:
    return ",".join(f"{HOST}:{port}" for port in ports)


def _cluster_id(folder: Path) -> str:
    file = folder / "cluster-id"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(new_kafka_id())
    return file.read_text()


def nobody_holds(lock: IO[str]) -> bool:
    """Takes the lock of an open file for good if nobody else has it, shared or not."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> None:
    """Runs a cluster in the foreground until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m demo.kafka.broker", description="Run Kafka on loopback.")
    parser.add_argument(
        "--folder", type=Path, required=True, help="where its data goes, and comes from next time"
    )
    parser.add_argument("--port", type=int, help="port of the first node (a free one if not given)")
    parser.add_argument("--nodes", type=int, default=1, help="one by default; three for replicas")
    parser.add_argument(
        "--while-locked", type=Path, help="end as well when no process holds a lock of this file"
    )
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except (
        KafkaUnavailable,
        KafkaDidNotStart,
        OSError,
    ) as reason:  # OSError: the port is taken, the disk is full
        sys.exit(str(reason))


def _run(arguments: argparse.Namespace) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    with contextlib.ExitStack() as held:
        lock = held.enter_context(arguments.while_locked.open("a")) if arguments.while_locked else None
        kafka = held.enter_context(start_kafka(arguments.folder, nodes=arguments.nodes, port=arguments.port))
        print(kafka.bootstrap, flush=True)
        while not ended.wait(0.1) and not (lock and nobody_holds(lock)):
            for node in kafka.nodes:
                if not node.is_running:
                    raise KafkaDidNotStart(f"node {node.id} ended; {node.log_tail()}")


if __name__ == "__main__":
    main()
