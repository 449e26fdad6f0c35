"""The demo's services write to the same brokers as the tests of `tests/kafka` use."""

from __future__ import annotations

from tests.kafka.conftest import create_topic, kafka, kafka_is_here, private_kafka, topic

__all__ = ["create_topic", "kafka", "kafka_is_here", "private_kafka", "topic"]
