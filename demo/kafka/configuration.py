"""The broker configuration that suits tests and demos, and ports to serve on; who may connect is in `security.py`."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HOST = "127.0.0.1"
MEBIBYTE = 1024 * 1024
LARGEST_BATCH_BYTES = 33 * MEBIBYTE  # a record of 32 MiB, its headers, and its batch

ANY_CLUSTER: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "auto.create.topics.enable": False,
    "message.max.bytes": LARGEST_BATCH_BYTES,
    "replica.fetch.max.bytes": LARGEST_BATCH_BYTES,
    "replica.fetch.response.max.bytes": LARGEST_BATCH_BYTES,
    "group.initial.rebalance.delay.ms": 0,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 2,
    "share.coordinator.state.topic.num.partitions": 1,
    # What else happens after seconds or minutes happens at once, for tests of retention, compaction and transactions.
    "log.initial.task.delay.ms": 500,
    "log.retention.check.interval.ms": 500,
    "log.segment.delete.delay.ms": 500,
    "log.cleaner.backoff.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
    # A node that was killed may come back when its session has ended, and not before; the default is 9 seconds.
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 250,
    # Small: the default takes 128 MiB from the heap.
    "log.cleaner.dedupe.buffer.size": 8 * MEBIBYTE,
    "num.network.threads": 2,
    "num.io.threads": 4,
}


def cluster_properties(controller_ports: Sequence[int]) -> dict[str, object]:
    """Broker configuration of a cluster with that many nodes, each of them controller and broker.

    With three nodes, topics have three replicas, and two must have a record before `acks=all` is answered.
    """
    replicas = min(len(controller_ports), 3)
    in_sync = max(replicas - 1, 1)
    return {
        **ANY_CLUSTER,
        "controller.quorum.voters": ",".join(
            f"{i}@{HOST}:{port}" for i, port in enumerate(controller_ports, 1)
        ),
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def listener_properties(ports: Mapping[str, int], protocols: Mapping[str, str]) -> dict[str, object]:
    """Broker configuration of listeners by name; `CONTROLLER` and `PLAIN` must be among them.

    Args:
        ports: Port of each listener.
        protocols: Protocol of each listener that isn't PLAINTEXT.
    """
    return {
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items()),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocols.get(name, 'PLAINTEXT')}" for name in ports
        ),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAIN",
    }


@contextlib.contextmanager
def reserved_port(port: int | None = None) -> Iterator[int]:
    """A loopback port (a free one, if none is given) that nobody else gets while the context lasts.

    It's held by a bound socket that doesn't listen, so it's safe while a node is down, too. Java sets SO_REUSEADDR on
    the sockets it listens with; as ours has it too, Linux lets both be bound, yet gives the port to no one who asks
    for any free port, nor to an outgoing connection. Elsewhere the port is only known to have been free.
    """
    with socket.socket() as holder:
        try:
            holder.bind((HOST, port or 0))
        except OSError as error:
            raise OSError(error.errno, f"port {port or 'any'} of {HOST}: {error.strerror}") from None
        chosen = holder.getsockname()[1]
        if sys.platform == "linux":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            holder.close()
        yield chosen
