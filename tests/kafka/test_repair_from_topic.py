"""A lost data file is made again from the topic, byte for byte, or it is said why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.repair.source import SourceFiles
from event_archive.repair.stream import NOT_REPAIRED, REPAIRED, repair_stream
from event_archive.sources.kafka import batches
from tests.kafka.topics import QUICK, Event, configure, delete_until, numbered, produce, send

if TYPE_CHECKING:
    import pytest

    from demo.kafka.broker import Kafka
    from event_archive.repair.stream import RepairItem
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic


def repaired(project: Project) -> list[RepairItem]:
    """Repairs the stream from its topic."""
    return list(repair_stream(project.store, source=SourceFiles(project.config(), "events")).items)


def all_lost(project: Project) -> dict[str, bytes]:
    """Removes all data files; gives what they were."""
    whole = {file.path: project.store.read(file.path) for file in read_snapshot(project.store).files}
    for name in whole:
        (project.table / name).unlink()
    return whole


def odd_events(partition: int) -> list[Event]:
    """Nulls, empty ones, headers, and timestamps of all kinds."""
    return [
        Event(None, b"k", partition=partition),
        Event(b"", b"", [], partition=partition),
        Event(b"v", None, [("h", None), ("h", b""), ("\xe4", b"x")], 1, partition),
        Event(b"x" * 5000, b"long", [("n", b"1")], 1_500_000_000_000, partition),
    ]


def test_files_of_a_topic_are_made_again(
    project: Project, kafka: Kafka, create_topic: CreateTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several partitions, commits, and row groups; nulls, headers, and holes where transactions were."""
    monkeypatch.setattr(batches, "ROW_GROUP_ROWS", 500)
    topic = create_topic(3)
    configure(project, kafka.bootstrap, topic)
    for turn in range(3):
        for partition in range(3):
            produce(kafka.bootstrap, topic, odd_events(partition))
            produce(kafka.bootstrap, topic, numbered(turn * 1000, 400 + 100 * partition, partition=partition))
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, **QUICK})
        producer.init_transactions(30)
        for is_committed in (True, False, True):
            producer.begin_transaction()
            send(producer, topic, numbered(0, 7))
            if is_committed:
                producer.commit_transaction(30)
            else:
                producer.flush(30)
                producer.abort_transaction(30)
        project.ingest()
    assert max(len(commit.row_groups) for commit in iter_commits(project.store)) > 1
    whole = all_lost(project)
    assert len(whole) == 3
    items = repaired(project)
    assert [item.outcome for item in items] == [REPAIRED] * 3, items
    assert {name: project.store.read(name) for name in whole} == whole


def test_offsets_that_the_brokers_have_deleted_are_named_and_the_rest_is_made_again(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Of two files only the newer one can still be had; and a topic that was made anew has none of them."""
    topic = create_topic(1)
    configure(project, kafka.bootstrap, topic)
    for turn in range(2):
        produce(kafka.bootstrap, topic, numbered(turn * 10, 10))
        project.ingest()
    whole = all_lost(project)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    delete_until(admin, topic, 5)
    items = {item.name: item for item in repaired(project)}
    first, second = whole
    assert items[first].outcome == NOT_REPAIRED
    assert "the brokers have deleted the offsets 0 to 4" in items[first].remark
    assert items[second].outcome == REPAIRED
    assert project.store.read(second) == whole[second]
