"""Stretches of a topic read a second time, as rows of the envelope.

What doesn't live here: whether they are still what was archived, which row digests and hashes of whole files tell
(`event_archive.repair.source`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from event_archive.archive.columns import column, string_column
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.errors import SourceProblem
from event_archive.sources.kafka.connection import Errors, kafka_errors, unavailable
from event_archive.sources.kafka.positions import decode_source_id
from event_archive.sources.kafka.reading import open_consumer
from event_archive.sources.kafka.records import offsets_of, record_columns
from event_archive.sources.kafka.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from event_archive.source_config import KafkaSource
    from event_archive.sources.claims import Span
    from event_archive.sources.kafka.topic import TopicState

_RECORDS = 10_000
_WAIT_SECONDS = 0.1


def reread_topic(stream: str, source: KafkaSource, spans: Sequence[Span]) -> Iterator[pa.Table]:
    """Reads the offsets of `spans` again.

    Args:
        stream: name of the stream.
        source: the topic.
        spans: stretches of its partitions, in the order of the rows.

    Yields:
        Rows with `SOURCE_SCHEMA`.

    Raises:
        SourceProblem: the topic is another one, or the brokers don't have an offset any more; the text names it.
        SourceUnavailable: the brokers don't answer.
    """
    state = Topic(source).state()
    for span in spans:
        _refuse_what_is_gone(source, state, span)
    errors = Errors()
    with kafka_errors(source, errors):
        consumer = open_consumer(stream, source, errors)
        try:
            for span in spans:
                yield from _Reading(source, consumer, errors, span).tables()
        finally:
            consumer.close()


def _refuse_what_is_gone(source: KafkaSource, state: TopicState, span: Span) -> None:
    cluster, topic, _ = decode_source_id(span.source_id)
    place = f"topic {topic} partition {span.partition}"
    if (cluster, topic) != (state.identity.cluster_id, source.topic):
        raise SourceProblem(
            f"{place} of the cluster {cluster} was archived, and the source is topic {source.topic} of another one"
        )
    bounds = state.bounds.get(span.partition)
    if bounds is None:
        raise SourceProblem(f"{place}: is not there, or has no leader at the moment")
    first, last = int(span.runs[0, 0]), int(span.runs[-1].sum()) - 1
    if bounds.low > first:
        raise SourceProblem(
            f"{place}: the brokers have deleted the offsets {first} to {min(bounds.low - 1, last)}"
        )
    if bounds.high <= last:
        raise SourceProblem(
            f"{place}: the brokers have offsets up to {bounds.high - 1} only, and {last} was archived; it was made anew, or restored"
        )


class _Reading:
    """The events of one span, in order."""

    def __init__(self, source: KafkaSource, consumer: Consumer, errors: Errors, span: Span) -> None:
        self._source = source
        self._consumer = consumer
        self._errors = errors
        self._span = span
        self._left = span.events
        self._last = int(span.runs[-1].sum()) - 1

    def tables(self) -> Iterator[pa.Table]:
        span = self._span
        self._consumer.assign([TopicPartition(self._source.topic, span.partition, int(span.runs[0, 0]))])
        heard_at = time.monotonic()
        while self._left:
            messages = self._consumer.consume(_RECORDS, _WAIT_SECONDS)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > self._source.timeout_seconds:
                raise unavailable(self._source, self._errors, self._source.timeout_seconds)
            wanted, is_over = self._wanted(messages)
            if wanted:
                self._left -= len(wanted)
                yield self._table(wanted)
            if is_over and self._left:
                raise SourceProblem(
                    f"topic {self._source.topic} partition {span.partition}: the brokers have {self._left} of the {span.events} archived "
                    f"events no more between the offsets {span.first_offset} and {self._last}"
                )

    def _wanted(self, messages: list[Message]) -> tuple[list[Message], bool]:
        """The messages whose offsets were archived, and whether none can follow."""
        records, is_over = [], False
        for message in messages:
            if message.partition() != self._span.partition:
                continue  # of the span before
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                is_over |= error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
                continue
            records.append(message)
        offsets, runs = offsets_of(records), self._span.runs
        at = np.searchsorted(runs[:, 0], offsets, side="right") - 1
        is_wanted = (at >= 0) & (offsets < runs[at].sum(axis=1))
        is_over |= bool(len(offsets)) and int(offsets[-1]) >= self._last
        return [record for record, keep in zip(records, is_wanted.tolist(), strict=True) if keep], is_over

    def _table(self, messages: list[Message]) -> pa.Table:
        rows = len(messages)
        columns, _ = record_columns(messages)
        columns |= {
            "source_id": pa.DictionaryArray.from_arrays(
                column(pa.int32(), np.zeros(rows, np.int32)), string_column([self._span.source_id])
            ),
            "source_partition": column(pa.int32(), np.full(rows, self._span.partition, np.int32)),
            "source_offset": column(pa.int64(), offsets_of(messages)),
        }
        return pa.table([columns[name] for name in SOURCE_SCHEMA.names], schema=SOURCE_SCHEMA)
