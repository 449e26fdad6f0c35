"""After a compaction a topic is compared, and replayed, as before it; a replay that was interrupted goes on."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from event_archive.compaction.days import compact_stream
from event_archive.replay import topic as replay_topic
from event_archive.replay.check import check_topic
from event_archive.sealing import seal
from tests.kafka.replaying import FOREVER, replay, without_offsets, writer
from tests.kafka.test_sample import sample
from tests.kafka.topics import configure, consumed, numbered, produce

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from event_archive.replay.events import Block
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic

COMMITS = 8


def ingest_often(project: Project, kafka: Kafka, topic: str) -> None:
    """Archives a topic of three partitions in several commits."""
    configure(project, kafka.bootstrap, topic)
    for number in range(COMMITS):
        for partition in range(3):
            produce(
                kafka.bootstrap, topic, numbered(number * 20, 10 + number + partition, partition=partition)
            )
        project.ingest()


def compact(project: Project) -> None:
    """Merges all files into one."""
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    result = compact_stream(project.config(), "events", until=tomorrow)
    assert [(item.files_before, item.files_after) for item in result.compacted] == [(COMMITS, 1)]


def test_a_sample_finds_each_event_where_it_is_now(
    project: Project, kafka: Kafka, create_topic: CreateTopic
) -> None:
    """Though old claims are sealed and files replaced."""
    topic = create_topic(3)
    ingest_often(project, kafka, topic)
    before = sample(project)
    assert before.events > 100
    compact(project)
    assert sample(project) == before
    assert seal(project.store, at_least=1) is not None
    produce(kafka.bootstrap, topic, numbered(999, 5, partition=1))
    project.ingest()
    found = sample(project, places=1000)
    assert found.differences == ()
    assert (found.places, found.gone) == (before.still_there + 5, 0)


class _Interrupted(Exception):
    pass


def test_a_replay_goes_on_behind_a_compaction(
    project: Project, kafka: Kafka, create_topic: CreateTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the position in the target: each event once, in order, as the archive had them before."""
    topic, target, whole = create_topic(3), create_topic(3, config=FOREVER), create_topic(3, config=FOREVER)
    ingest_often(project, kafka, topic)
    replay(project, kafka, whole)
    monkeypatch.setattr(replay_topic, "EVENTS_A_TRANSACTION", 25)
    take = replay_topic.TopicWriter._take
    taken: list[Block] = []

    def interrupted(one: replay_topic.TopicWriter, block: Block) -> None:
        if len(taken) == COMMITS // 2:
            raise _Interrupted
        taken.append(block)
        take(one, block)

    with monkeypatch.context() as patch:
        patch.setattr(replay_topic.TopicWriter, "_take", interrupted)
        with pytest.raises(_Interrupted):
            replay(project, kafka, target)
    compact(project)
    result = replay(project, kafka, target)
    assert result.events_before > 0
    assert result.events > 0
    assert without_offsets(consumed(kafka.bootstrap, target)) == without_offsets(
        consumed(kafka.bootstrap, whole)
    )
    assert all(check.is_equal for check in check_topic(writer(project, kafka, whole)))
