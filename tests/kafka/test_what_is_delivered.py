"""What the client delivers is not believed blindly: offsets that come twice, and a topic that is another one by now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from event_archive.errors import SourceProblem
from event_archive.sources.kafka.ingest import _Pass
from tests.kafka.topics import archived, configure, numbered, produce

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project


def test_an_offset_that_comes_twice_is_refused(
    project: Project, kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that jumps back doubles nothing: the ingest stops, and the next one goes on."""
    produce(kafka.bootstrap, topic, numbered(0, 20))
    configure(project, kafka.bootstrap, topic)
    times: list[int] = []

    class Repeating(Consumer):
        """Jumps back once."""

        def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
            messages = super().consume(num_messages, timeout)
            if messages and not times:
                times.append(len(messages))
                self.seek(TopicPartition(topic, 0, 5))
                return [message for message in messages if message.error() is None]
            return messages

    monkeypatch.setattr("event_archive.sources.kafka.reading.Consumer", Repeating)
    with pytest.raises(SourceProblem, match="was delivered after one that is not before it"):
        project.ingest()
    monkeypatch.undo()
    assert project.ingest().problems == ()
    assert [record[0] for record in archived(project)[0]] == list(range(20))


def test_records_of_a_topic_made_anew_while_they_were_read_are_dropped(
    project: Project, kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the plan and the commit it became another topic: whose records these are can't be known."""
    produce(kafka.bootstrap, topic, numbered(0, 20))
    configure(project, kafka.bootstrap, topic)
    admin = kafka.admin()
    run = _Pass._is_due

    def is_due(self: _Pass) -> bool:
        if self._builder.pending_rows:
            monkeypatch.undo()
            admin.delete_topics([topic])[topic].result(30)
            until = time.monotonic() + 30
            while topic in admin.list_topics(timeout=10).topics:
                assert time.monotonic() < until
                time.sleep(0.05)
            kafka.create_topic(topic)
            return True
        return run(self)

    monkeypatch.setattr(_Pass, "_is_due", is_due)
    project.ingest()
    assert archived(project) == {}
    produce(kafka.bootstrap, topic, numbered(100, 3))
    project.ingest()
    assert [record[2] for record in archived(project)[0]] == [event.value for event in numbered(100, 3)]
