"""Ingest of topics of a real broker: beside a bare consumer, its memory, its lag while events come in, and there and back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from benchmarks.kafka_events import ROOT, fill, start_producers
from benchmarks.measuring import Figure, event_archive, median, run
from demo.kafka.broker import start_kafka
from event_archive.archive.snapshot import read_snapshot
from event_archive.replay.digests import DIGESTED_COLUMNS, Digests
from event_archive.sources.kafka.reading import FETCH_PROPERTIES
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from demo.kafka.broker import Kafka
    from event_archive.replay.digests import PartitionDigest

RUNS = 3
EVENTS = 5_000_000
VALUE_BYTES = 200
PARTITIONS = 12
MANY_PARTITIONS = 1_000
EVENTS_OF_MANY = 2_000_000
LARGE_EVENTS = 50
LARGE_BYTES = 20 * 10**6
BACKLOG_SECONDS = 60
RATE = 20_000
FOLLOW_SECONDS = 60
REPLAYED_EVENTS = 10_000_000


def _kafka(folder: Path) -> AbstractContextManager[Kafka]:
    # A heap and a compiler like those of a server: what is measured is not to be the broker.
    return start_kafka(folder / "kafka", jvm_options=("-Xmx1G",))


def _write_config(folder: Path, brokers: str, *topics: str) -> None:
    streams = "".join(
        f"  {topic.replace('-', '_')}:\n    source: {{type: kafka, brokers: '{brokers}', topic: {topic}}}\n"
        for topic in topics
    )
    (folder / "event_archive.yaml").write_text(f"archive: archive\nwarehouse: warehouse\nstreams:\n{streams}")


def _status(folder: Path, stream: str) -> dict[str, int]:
    (status,) = json.loads(event_archive("status", stream, "--json", cwd=folder).output)["streams"]
    return {"events": status["events"], "lag": status["lag"]["events"]}


def _check(folder: Path, stream: str, events: int) -> None:
    status = _status(folder, stream)
    if status != {"events": events, "lag": 0}:
        sys.exit(f"{events} events were produced, but the archive says {status}")


def _bare_loop(topic: str, partitions: int, events: int, properties: dict[str, object]) -> Figure:
    figure = run(
        sys.executable,
        "-m",
        "benchmarks.kafka_bare_loop",
        topic,
        str(partitions),
        *(f"{name}={value}" for name, value in properties.items()),
        cwd=ROOT,
    )
    if int(figure.output) != events:
        sys.exit(f"{events} events were produced, but the bare loop read {figure.output}")
    return figure


def beside_a_bare_consumer(folder: Path, scale: float) -> None:
    """Ingest of 5M events of 200 bytes in 12 partitions, and loops that throw them away, in turn."""
    events = int(EVENTS * scale)
    with _kafka(folder) as kafka:
        kafka.create_topic("bench", PARTITIONS)
        fill(kafka.bootstrap, "bench", PARTITIONS, events, VALUE_BYTES)
        _write_config(folder, kafka.bootstrap, "bench")
        addresses: dict[str, object] = {"bootstrap.servers": kafka.bootstrap}
        checked = {**addresses, "check.crcs": True}
        loops: dict[str, dict[str, object]] = {
            "bare loop": addresses,
            "bare loop, checksums on": checked,
            "the same, set up like ours": {**checked, **FETCH_PROPERTIES},
        }
        figures: dict[str, list[Figure]] = {"event-archive ingest": [], **{name: [] for name in loops}}
        for _ in range(RUNS):
            shutil.rmtree(folder / "archive", ignore_errors=True)
            figures["event-archive ingest"].append(event_archive("ingest", cwd=folder))
            for name, properties in loops.items():
                figures[name].append(_bare_loop("bench", PARTITIONS, events, properties))
        _check(folder, "bench", events)
        again = median([event_archive("ingest", cwd=folder) for _ in range(RUNS)])
    print(
        f"Kafka: {events:,} events of {VALUE_BYTES} bytes with key and two headers, {PARTITIONS} partitions, median of {RUNS} "
        "whole processes:"
    )
    ours = median(figures["event-archive ingest"])
    for name, figure in ((name, median(given)) for name, given in figures.items()):
        print(
            f"  {name:<28} {figure.seconds:6.2f} s  {events / figure.seconds:9,.0f} events/s  {figure.peak_mb:5.0f} MB peak"
            f"   ours has {figure.seconds / ours.seconds:.2f} of its speed"
        )
    print(f"  nothing new: {again.seconds:.2f} s, {again.peak_mb:.0f} MB peak")


def memory(folder: Path, scale: float) -> None:
    """Peak memory for 1,000 partitions, and for large events."""
    events = int(EVENTS_OF_MANY * scale)
    with _kafka(folder) as kafka:
        kafka.create_topic("many", MANY_PARTITIONS)
        kafka.create_topic("large", PARTITIONS)
        fill(kafka.bootstrap, "many", MANY_PARTITIONS, events, VALUE_BYTES)
        fill(kafka.bootstrap, "large", PARTITIONS, LARGE_EVENTS, LARGE_BYTES)
        _write_config(folder, kafka.bootstrap, "many", "large")
        many = event_archive("ingest", "many", cwd=folder)
        large = event_archive("ingest", "large", cwd=folder)
        _check(folder, "many", events)
        _check(folder, "large", LARGE_EVENTS)
    print(
        f"Kafka: {events:,} events in {MANY_PARTITIONS:,} partitions: {many.seconds:.1f} s, {many.peak_mb:.0f} MB peak "
        f"(goal: < 600)\nKafka: {LARGE_EVENTS} events of {LARGE_BYTES / 1e6:.0f} MB: {large.seconds:.1f} s, "
        f"{large.peak_mb:.0f} MB peak"
    )


def following(folder: Path, scale: float) -> None:
    """The lag of an ingest that follows, begun late, while 20,000 events a second come in."""
    backlog = int(RATE * BACKLOG_SECONDS * scale)
    seconds = max(10, int(FOLLOW_SECONDS * scale))
    with _kafka(folder) as kafka:
        kafka.create_topic("bench", PARTITIONS)
        fill(kafka.bootstrap, "bench", PARTITIONS, backlog, VALUE_BYTES)
        _write_config(folder, kafka.bootstrap, "bench")
        producers = start_producers(
            kafka.bootstrap, "bench", PARTITIONS, RATE * seconds, VALUE_BYTES, rate=RATE
        )
        started = time.monotonic()
        command = [sys.executable, "-m", "event_archive", "ingest", "--follow", "--max-latency", "2"]
        with (folder / "follow.log").open("w") as log:
            ingest = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        print(f"Kafka: lag behind {RATE:,} events a second, ingest --follow --max-latency 2:")
        try:
            while any(producer.poll() is None for producer in producers):
                lag = _status(folder, "bench")["lag"]
                print(f"  after {time.monotonic() - started:4.0f} s {lag:10,} events")
                time.sleep(seconds / 10)
            while (lag := _status(folder, "bench")["lag"]) and ingest.poll() is None:
                time.sleep(0.1)
            print(f"  after {time.monotonic() - started:4.0f} s {lag:10,} events; nothing comes any more")
            ingest.send_signal(signal.SIGTERM)
            if ingest.wait():
                sys.exit((folder / "follow.log").read_text())
        finally:
            for process in (ingest, *producers):
                process.kill()  # does nothing where it has ended
        _check(folder, "bench", backlog + RATE * seconds)


def _digests(table: Path) -> dict[int, PartitionDigest]:
    digests = Digests()
    for path in read_snapshot(FolderStore(table)).file_paths():
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, columns=["source_partition", *DIGESTED_COLUMNS])
                stamps = rows["timestamp_ms"].combine_chunks().fill_null(-1)
                partitions = rows["source_partition"].combine_chunks()
                digests.add(partitions.to_numpy(), stamps.to_numpy(), rows)
    return digests.result()


def there_and_back(folder: Path, scale: float) -> None:
    """Events archived, replayed into an empty topic, and archived again: the same per partition."""
    events = int(REPLAYED_EVENTS * scale)
    with _kafka(folder) as kafka:
        kafka.create_topic("first", PARTITIONS)
        kafka.create_topic("second", PARTITIONS)
        fill(kafka.bootstrap, "first", PARTITIONS, events, VALUE_BYTES)
        _write_config(folder, kafka.bootstrap, "first", "second")
        first = event_archive("ingest", "first", cwd=folder)
        replayed = event_archive("replay", "first", "--to", f"kafka://{kafka.bootstrap}/second", cwd=folder)
        second = event_archive("ingest", "second", cwd=folder)
        _check(folder, "first", events)
        _check(folder, "second", events)
    is_same = _digests(folder / "archive" / "first") == _digests(folder / "archive" / "second")
    print(f"Kafka: {events:,} events there and back; the same per partition: {is_same}")
    for name, figure in (("archived", first), ("replayed", replayed), ("archived again", second)):
        print(
            f"  {name:<16} {figure.seconds:6.1f} s  {events / figure.seconds:9,.0f} events/s  {figure.peak_mb:5.0f} MB peak"
        )
