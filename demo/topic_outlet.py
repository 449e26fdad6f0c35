"""A topic that takes a simulated stream: what a line becomes there, and going on where a simulation was stopped.

How records get there safely is in `topic.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from demo.topic import (
    PARTITIONS,
    TopicReader,
    TopicWriter,
    ensure_topic,
    partition_of,
    record_headers,
    retention_ms,
)

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from demo.outlet import Line
    from demo.topic import Headers


class OtherHistory(Exception):
    """The topic holds something else than the beginning of this history, or can't keep it."""


class TopicOutlet:
    """A topic as an `Outlet`: each line is a record, byte for byte what a file has before the line feed.

    The same history gives the same records in the same partitions, in the same order. So a simulation that was stopped is done again,
    and what the topic has of each partition already isn't sent another time. The newest record of each is compared, before any other is
    sent: a topic of another history is left as it is.

    Args:
        brokers: Addresses to begin with.
        topic: Made if it isn't there.
        partitions: How many it gets if it is made.

    Raises:
        NotDelivered: The brokers don't answer.
        OtherHistory: The topic has lost its first records, or would lose what comes.
    """

    def __init__(self, brokers: str, topic: str, partitions: int = PARTITIONS) -> None:
        self._place = f"The topic {topic} at {brokers}"
        self._partitions = ensure_topic(brokers, topic, partitions)
        if (retention := retention_ms(brokers, topic)) >= 0:
            raise self._other(
                f"has the retention {retention} ms, and brokers would delete events that are years old"
            )
        self._writer = TopicWriter(brokers, topic, self._partitions)
        self._reader = TopicReader(brokers, topic)
        ends = self._reader.ends(self._partitions)
        if any(first for first, _ in ends):
            raise self._other("has lost its first records")
        self._there = [end for _, end in ends]
        newest = [(partition, end - 1) for partition, end in enumerate(self._there) if end]
        self._newest = self._reader.values(newest)
        self._unproved = {partition for partition, _ in newest}
        self._held: list[_Record] = []
        self._written: Counter[int] = Counter()

    def open(self, server: str, path: PurePosixPath) -> _Records:  # noqa: ARG002 - topics have no files
        """Open what a server's records are written to."""
        return _Records(self, record_headers(server))

    def confirm(self) -> None:
        """Return when the brokers have everything; see `TopicWriter.confirm`."""
        self._writer.confirm()

    def finish(self) -> None:
        """Confirm, and compare what is there with what was written.

        Raises:
            OtherHistory: The topic holds more.
        """
        self._writer.confirm()
        ends = [end for _, end in self._reader.ends(self._partitions)]
        self._reader.close()
        if self._unproved or ends != [self._written[partition] for partition in range(self._partitions)]:
            raise self._other("holds more than this history")

    def write(self, line: Line, end: bytes, at_us: int, headers: Headers) -> None:
        """Send a line, unless it's empty or there already."""
        if not line.text:
            return  # no event, and a record would be one
        partition = partition_of(line.key, self._partitions)
        record = _Record(line.text + end[:-1], line.key, headers, at_us // 1000, partition)
        offset = self._written[partition]
        self._written[partition] += 1
        if offset >= self._there[partition]:
            self._held.append(record)
            self._send_held()
        elif offset == self._there[partition] - 1:
            if record.value != self._newest[partition]:
                raise self._other("holds another history")
            self._unproved.discard(partition)
            self._send_held()

    def _send_held(self) -> None:
        # A simulation that is stopped leaves partitions that end close to each other: few records wait here.
        if not self._unproved:
            for held in self._held:
                self._writer.send(**held._asdict())
            self._held.clear()

    def _other(self, what: str) -> OtherHistory:
        return OtherHistory(
            f"{self._place} {what}. Delete that topic, or choose others (--topic-prefix), for this number of events and this seed."
        )


class _Record(NamedTuple):
    """What `TopicWriter.send` is given."""

    value: bytes
    key: bytes | None
    headers: Headers
    timestamp_ms: int
    partition: int


class _Records:
    """What one server writes during one day."""

    def __init__(self, outlet: TopicOutlet, headers: Headers) -> None:
        self._outlet = outlet
        self._headers = headers

    def write(self, line: Line, end: bytes, at_us: int) -> None:
        self._outlet.write(line, end, at_us, self._headers)

    def close(self) -> None:
        """Records are under way already."""
