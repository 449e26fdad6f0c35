"""What one writes in five minutes: consumes a topic to the end of all its partitions and throws everything away."""

from __future__ import annotations

import argparse

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

_RECORDS_A_CALL = 10_000


def consume_all(topic: str, partitions: int, properties: dict[str, str]) -> int:
    """Number of events that the topic has."""
    consumer = Consumer(
        {"group.id": "bare-loop", "enable.auto.commit": False, "enable.partition.eof": True, **properties}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    events = ends = 0
    while ends < partitions:
        messages = consumer.consume(_RECORDS_A_CALL, 0.1)
        events += len(messages)
        if any(map(Message.error, messages)):
            for error in filter(None, map(Message.error, messages)):
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                events -= 1
                ends += 1
    consumer.close()
    return events


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("partitions", type=int)
    parser.add_argument("property", nargs="+", help="of librdkafka: name=value")
    arguments = parser.parse_args()
    given = dict(text.split("=", 1) for text in arguments.property)
    print(consume_all(arguments.topic, arguments.partitions, given))
