"""Places of a topic drawn at random, read again from the brokers and compared with the archive, field by field.

A second opinion: nothing of what turned records into columns takes part in it. Only committed events are compared. What
the brokers don't have any more (retention, compaction) can't be compared, and is counted.

What doesn't live here: proof that the archive is what its log says (`event_archive.verify`), and how often this is done.
"""

from __future__ import annotations

import hashlib
import random
import time
from array import array
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import Snapshot, local_file, read_snapshot
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors, unavailable
from event_archive.sources.kafka.plan import less_reason, refuse_another_topic
from event_archive.sources.kafka.positions import Positions, decode_claims
from event_archive.sources.kafka.topic import Topic
from event_archive.sql.views import archive_select

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.archive.log import Commit
    from event_archive.source_config import KafkaSource
    from event_archive.sources.kafka.topic import TopicState
    from event_archive.storage.store import Store

PLACES = 100
EVENTS_A_PLACE = 10
_WAIT_SECONDS = 0.1
_FETCH_BYTES = 64 * 1024
_PLACE_BYTES = 2**20
"""Of large events fewer are read at a place."""
_TIMESTAMP_TYPES = {1: "create_time", 2: "log_append_time"}  # by librdkafka's number; 0 is none
_FIELDS = ("key", "value", "headers", "timestamp_ms", "timestamp_type")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a look at some places of a topic gave."""

    places: int
    """How many were drawn."""
    events: int
    """Events compared."""
    gone: int
    """Archived events at those places that the brokers have no more."""
    still_there: int
    """Offsets that are archived and that the brokers may still have: what the places were drawn from."""
    differences: tuple[str, ...]
    """A sentence on each event that is another one, and on each partition that has less than the archive."""


@dataclass(slots=True)
class _Place:
    """Some offsets in a row: all that the brokers have from `first` up to `end`."""

    partition: int
    first: int
    end: int
    """At first, where what is archived ends; in the end, where reading has ended."""
    events: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    """What the brokers gave, by offset, as `_comparable` has it."""
    size_bytes: int = 0


class _Claimed:
    """Which commit has archived which offsets: as numbers only, since it may be about millions of commits' partitions."""

    def __init__(self, topic: str) -> None:
        self.positions = Positions(topic)
        self._spans: dict[tuple[str, int], array[int]] = defaultdict(lambda: array("q"))

    def note(self, commit: Commit) -> None:
        """Takes in the claims of the next commit."""
        for claim in decode_claims(commit.claims):
            self.positions.put(claim)
            if claim.next_offset > claim.first_offset:
                spans = self._spans[claim.source_id, claim.partition]
                spans.extend((claim.first_offset, claim.next_offset, commit.version))

    def spans(self, partition: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """First offset, next offset and version of each claim on the newest generation of a partition, ascending."""
        source_id = self.positions.by_partition[partition].source_id
        return np.array(self._spans.get((source_id, partition), ()), np.int64).reshape(-1, 3)


def compare_sample(
    stream: str,
    source: KafkaSource,
    table: Store,
    *,
    seed: str,
    places: int = PLACES,
    events_a_place: int = EVENTS_A_PLACE,
) -> Sample:
    """Draws places of what is archived, reads them again from the brokers and compares them with the archive.

    At each place the next few events are read, and so it shows as well if the archive has a hole where the brokers have
    an event.

    Args:
        stream: name of the stream.
        source: its topic.
        table: its table.
        seed: the same seed draws the same places, as long as archive and topic stay as they are.
        places: how many to draw.
        events_a_place: how many events to read at each.

    Raises:
        SourceProblem: the topic isn't the archived one, or can't be read by this user.
        SourceUnavailable: the brokers don't answer.
        ArchiveDamaged: the log can't be read.
    """
    topic = Topic(source)
    claimed = _Claimed(source.topic)
    snapshot = read_snapshot(table)
    for commit in iter_commits(table, until=snapshot.version):  # a state has not the claims of each commit
        claimed.note(commit)
    state = (
        topic.state()
    )  # after the log, so that what is archived meanwhile doesn't look as if the brokers had less
    refuse_another_topic(stream, source, claimed.positions, state)
    drawn, still_there = _draw(claimed, state, random.Random(seed), places)  # noqa: S311 - a seed is wanted here
    _read(stream, source, drawn, events_a_place)
    # Only now it's certain that what was read is of this topic: ids are never given twice.
    refuse_another_topic(stream, source, claimed.positions, topic.state())
    differences = _with_less(stream, claimed, state)
    gone = 0
    with closing(duckdb.connect()) as connection:
        for place in drawn:
            rows, events = _archived(connection, snapshot, claimed, place)
            differences += _differences(source, place, rows)
            gone += max(events - len(place.events), 0)
    return Sample(
        places=len(drawn),
        events=sum(len(place.events) for place in drawn),
        gone=gone,
        still_there=still_there,
        differences=tuple(dict.fromkeys(differences)),  # places may overlap
    )


def _draw(
    claimed: _Claimed, state: TopicState, chance: random.Random, places: int
) -> tuple[list[_Place], int]:
    """Places in ascending order, and the number of offsets that they were drawn from."""
    found: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    for partition, bounds in sorted(state.bounds.items()):
        claim = claimed.positions.by_partition.get(partition)
        if claim is None or claim.topic_id != state.identity.topic_id:
            continue
        spans = np.clip(claimed.spans(partition)[:, :2], bounds.low, max(bounds.stable, bounds.low))
        end = min(claim.next_offset, bounds.stable)
        found.append(
            np.column_stack(
                [np.full((len(spans), 2), (partition, end)), spans[:, 0], spans[:, 1] - spans[:, 0]]
            )
        )
    stretches = np.concatenate(found) if found else np.empty((0, 4), np.int64)
    until = np.cumsum(stretches[:, 3])
    total = int(until[-1]) if len(until) else 0
    drawn = []
    for number in sorted(chance.sample(range(total), min(places, total))):
        index = int(np.searchsorted(until, number, side="right"))
        partition, end, first, length = stretches[index].tolist()
        drawn.append(_Place(partition, first + number - (int(until[index]) - length), end))
    return drawn, total


def _with_less(stream: str, claimed: _Claimed, state: TopicState) -> list[str]:
    return [
        f"Partition {partition} {less_reason(stream, partition, claim, state.bounds[partition])}."
        for partition, claim in sorted(claimed.positions.by_partition.items())
        if partition in state.bounds
        and claim.topic_id == state.identity.topic_id
        and state.bounds[partition].high < claim.next_offset
    ]


def _read(stream: str, source: KafkaSource, places: Iterable[_Place], events_a_place: int) -> None:
    """Fills the places with what the brokers have there."""
    waiting: dict[int, list[_Place]] = defaultdict(list)
    for place in places:
        waiting[place.partition].append(place)
    if not waiting:
        return
    errors = Errors()
    with kafka_errors(source, errors):
        consumer = Consumer(
            client_properties(
                source,
                errors,
                group_id=source.group or f"event-archive-{stream}",
                isolation_level="read_committed",
                auto_offset_reset="error",
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                enable_partition_eof=True,
                check_crcs=True,
                # A place needs a few events, and not the megabytes that are fetched ahead for those who read on.
                queued_min_messages=1,
                max_partition_fetch_bytes=_FETCH_BYTES,
                fetch_wait_max_ms=10,
                fetch_queue_backoff_ms=10,
            )
        )
        try:
            while waiting:
                now = {partition: left.pop() for partition, left in waiting.items()}
                _read_one_each(consumer, source, errors, now, events_a_place)
                waiting = {partition: left for partition, left in waiting.items() if left}
        finally:
            consumer.close()


def _read_one_each(
    consumer: Consumer, source: KafkaSource, errors: Errors, places: dict[int, _Place], events_a_place: int
) -> None:
    """Fills one place of each partition."""
    consumer.assign([TopicPartition(source.topic, p, place.first) for p, place in places.items()])
    heard_at = time.monotonic()
    while places:
        # One by one: a batch could hold what was fetched before the assignment was changed.
        message = consumer.poll(_WAIT_SECONDS)
        if message is None:
            if time.monotonic() - heard_at > source.timeout_seconds:
                raise unavailable(source, errors, source.timeout_seconds)
            continue
        place = places.get(message.partition())  # type: ignore[arg-type]
        if place is None:
            continue
        heard_at = time.monotonic()
        if _take(place, message, errors, events_a_place):
            del places[place.partition]
            consumer.incremental_unassign([TopicPartition(source.topic, place.partition)])


def _take(place: _Place, message: Message, errors: Errors, events_a_place: int) -> bool:
    """Takes in what came for a place; whether that was the last."""
    offset: Any = message.offset()
    if error := message.error():
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            place.end = place.first  # deleted since the brokers were asked
            return True
        errors.note(error)
        return False
    if offset >= place.end:
        return True
    place.events[offset] = _as_given(message)
    place.size_bytes += len(message)
    if len(place.events) == events_a_place or place.size_bytes >= _PLACE_BYTES:
        place.end = offset + 1
        return True
    return False


def _archived(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, claimed: _Claimed, place: _Place
) -> tuple[dict[int, list[tuple[Any, ...]]], int]:
    """The archive's rows for the events of a place, by offset, and how many events it has from its first to its end."""
    spans = claimed.spans(place.partition)
    overlap = spans[(spans[:, 0] < place.end) & (spans[:, 1] > place.first)]
    versions = set(overlap[:, 2].tolist())
    files = [
        str(local_file(snapshot.table, file))
        for file in snapshot.files
        if any(
            file.stats["minValues"]["commit_version"] <= version <= file.stats["maxValues"]["commit_version"]
            for version in versions
        )
    ]
    if not files:
        return {}, 0
    relation = archive_select(files, with_payload=False)
    where = "where source_id = $source_id and source_partition = $partition"
    parameters: dict[str, Any] = {
        "source_id": claimed.positions.by_partition[place.partition].source_id,
        "partition": place.partition,
    }
    (events,) = connection.execute(
        f"select count(*) from ({relation}) {where} and source_offset >= $first and source_offset < $end",
        {**parameters, "first": place.first, "end": place.end},
    ).fetchall()[0]
    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    offsets = ", ".join(map(str, place.events))
    if offsets:
        found = connection.execute(
            f"select source_offset, {', '.join(_FIELDS)} from ({relation}) {where} and source_offset in ({offsets})",
            parameters,
        )
        for offset, key, value, headers, *timestamp in found.fetchall():
            listed = [(header["key"], header["value"]) for header in headers or ()]
            rows[offset].append(_comparable(key, value, listed, *timestamp))
    return rows, events


def _differences(source: KafkaSource, place: _Place, rows: dict[int, list[tuple[Any, ...]]]) -> list[str]:
    differences = []
    for offset, given in place.events.items():
        where = f"topic {source.topic} partition {place.partition} offset {offset}"
        archived = rows.get(offset, [])
        if not archived:
            differences.append(f"{where}: the broker has an event there, and the archive has none.")
        elif len(archived) > 1:
            differences.append(f"{where}: the event is in the archive {len(archived)} times.")
        elif archived[0] != given:
            names = [
                name for name, ours, theirs in zip(_FIELDS, archived[0], given, strict=True) if ours != theirs
            ]
            differences.append(
                f"{where}: the broker's event differs from the archived one in {', '.join(names)}."
            )
    return differences


def _as_given(message: Message) -> tuple[Any, ...]:
    """What an event must be in the archive."""
    kind, milliseconds = message.timestamp()
    headers: Any = message.headers()
    return _comparable(
        message.key(),
        message.value(),
        [(name, value) for name, value in headers or ()],
        milliseconds if kind in _TIMESTAMP_TYPES else None,
        _TIMESTAMP_TYPES.get(kind),
    )


def _comparable(
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    timestamp_ms: int | None,
    timestamp_type: str | None,
) -> tuple[Any, ...]:
    """An event in little memory, however large it is, in the order of `_FIELDS`."""
    return (_digest(key), _digest(value), _digest(repr(headers).encode()), timestamp_ms, timestamp_type)


def _digest(data: bytes | None) -> bytes | None:
    return None if data is None else hashlib.sha256(data).digest()
