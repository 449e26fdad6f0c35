"""Topics filled for benchmarks: seeded events of a given size, each with a key and two headers.

Run as a script it is one producer of several. What doesn't live here: what is measured.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

ROOT = Path(__file__).parents[1]
PRODUCERS = 3
KEYS = 5_000
_RUN = 100
_RANDOM_BYTES = 2**22


def fill(
    brokers: str, topic: str, partitions: int, events: int, value_bytes: int = 200, *, rate: int = 0
) -> None:
    """Produces `events` events, evenly over the partitions, and waits until the broker has them all."""
    for process in start_producers(brokers, topic, partitions, events, value_bytes, rate=rate):
        if process.wait():
            sys.exit(f"a producer of {topic} failed")


def start_producers(
    brokers: str, topic: str, partitions: int, events: int, value_bytes: int = 200, *, rate: int = 0
) -> list[subprocess.Popen[bytes]]:
    """Starts processes that produce `events` events together, `rate` a second or as fast as they can."""
    producers = min(PRODUCERS, partitions)
    commands = []
    for number in range(producers):
        numbers = ",".join(map(str, range(number, partitions, producers)))
        count = events // producers + (number < events % producers)
        commands.append([brokers, topic, numbers, count, value_bytes, rate / producers])
    return [
        subprocess.Popen([sys.executable, "-m", "benchmarks.kafka_events", *map(str, command)], cwd=ROOT)
        for command in commands
    ]


def _produce(  # noqa: PLR0917 - as they stand on the command line
    brokers: str, topic: str, partitions: list[int], events: int, value_bytes: int, rate: float
) -> None:
    generator = random.Random(partitions[0])  # noqa: S311 - seeded on purpose
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 2**18,
            "message.max.bytes": max(2**20, value_bytes + 2**16),
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 2**18,
            "log_level": 0,  # a broker that has just started lets its first producers wait, which is no news
        }
    )
    # Hexadecimal digits, which compress to a half: about what events with ids, amounts and names do.
    digits = generator.randbytes(_RANDOM_BYTES // 2 + value_bytes).hex().encode()
    started = time.monotonic()
    for number in range(events):
        start = b'{"number":%d,"digits":"' % number
        first = number * 7919 % _RANDOM_BYTES
        value = b'%s%s"}' % (start, digits[first : first + value_bytes - len(start) - 2])
        # A run of events to one partition after the other, as producers make them that fill their batches.
        partition = partitions[number // _RUN % len(partitions)]
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    b"key-%d" % (number % KEYS),
                    partition,
                    headers=[("source", b"benchmark"), ("trace", b"%016x" % number)],
                )
            except BufferError:
                producer.poll(0.05)
            else:
                break
        if number % _RUN == 0:
            producer.poll(0)
            if rate:
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
    if producer.flush(600):
        sys.exit("the broker did not take everything")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("topic")
    parser.add_argument("partitions", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("events", type=int)
    parser.add_argument("value_bytes", type=int)
    parser.add_argument("rate", type=float, help="events a second; 0 for as fast as it can")
    _produce(**vars(parser.parse_args()))
