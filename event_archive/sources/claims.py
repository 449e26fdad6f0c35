"""What a commit claims of its sources, whatever their kind: stretches of offsets, which its rows must match one by one.

What doesn't live here: what each kind of source records beyond that (`files.positions`, `kafka.positions`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from event_archive.archive.state import Abridged
from event_archive.sources.files import positions as files
from event_archive.sources.kafka import positions as kafka
from event_archive.sources.source_status import Gap

if TYPE_CHECKING:
    import numpy.typing as npt

    from event_archive.archive.log import Commit

_NO_LINES = np.empty(0, np.int64)
_NO_RUNS = np.empty((0, 2), np.int64)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of offsets of one partition of a source, as one commit claims it."""

    source_id: str
    partition: int
    begins_anywhere: bool
    """Whether the first span of the partition may begin at another offset than 0."""
    gap_from: int
    """Where the commits before it end; equal to `first_offset` unless events were gone when they were to be read."""
    first_offset: int
    next_offset: int
    """Everything before it is archived or a known hole."""
    gap_reason: str
    runs: npt.NDArray[np.int64]
    """Shape (runs, 2): first offset and number of events of each stretch without a hole."""

    @property
    def events(self) -> int:
        """Number of events in it."""
        return int(self.runs[:, 1].sum())

    @property
    def name(self) -> str:
        """The partition as a person would say it."""
        return f"{self.source_id} partition {self.partition}" if self.begins_anywhere else self.source_id


def gaps_of(commit: Commit) -> list[Gap]:
    """What a commit says of events that were gone before they could be read."""
    found_at = (_EPOCH + dt.timedelta(microseconds=commit.ingested_at_us)).isoformat(timespec="seconds")
    return [
        Gap(span.source_id, span.partition, span.gap_from, span.first_offset, found_at, span.gap_reason)
        for span in spans(commit.claims)
        if span.gap_from < span.first_offset
    ]


def spans(claims: dict[str, list[Any]]) -> list[Span]:
    """The spans of a commit, in the order of its rows.

    Raises:
        KeyError, ValueError, TypeError: the claims aren't as they were written.
    """
    if kafka.is_of_kafka(claims):
        return [
            Span(
                claim.source_id,
                claim.partition,
                begins_anywhere=True,
                gap_from=claim.first_offset if claim.gap_from is None else claim.gap_from,
                first_offset=claim.first_offset,
                next_offset=claim.next_offset,
                gap_reason=claim.gap_reason,
                runs=claim.runs,
            )
            for claim in kafka.decode_claims(claims)
        ]
    return [
        Span(
            claim.state.source_id,
            0,
            begins_anywhere=False,
            gap_from=claim.first_record,
            first_offset=claim.first_record,
            next_offset=claim.state.records,
            gap_reason="",
            runs=np.array([[claim.first_record, claim.state.records - claim.first_record]], np.int64),
        )
        for claim in files.decode_claims(claims)
    ]


class ClaimFold:
    """The newest claims on everything, and all gaps: the least that positions and gaps can be told from."""

    def __init__(self) -> None:
        self._files: dict[str, files.Claim] = {}
        self._partitions: dict[tuple[str, int], kafka.PartitionClaim] = {}
        self._gaps: list[Abridged] = []
        self._version = self._ingested_at_us = -1
        self._events = 0

    def note(self, commit: Commit) -> None:
        """Takes in the next commit, or what an earlier `abridged` gave."""
        self._version, self._ingested_at_us = commit.version, commit.ingested_at_us
        self._events += commit.events
        for claim in files.decode_claims(commit.claims):
            key = claim.state.source_id
            self._files.pop(key, None)  # the order is that of the newest claims
            self._files[key] = replace(claim, blank_before=_NO_LINES)
        of_kafka = kafka.decode_claims(commit.claims)
        for kafka_claim in of_kafka:
            place = (kafka_claim.source_id, kafka_claim.partition)
            self._partitions.pop(place, None)
            self._partitions[place] = replace(kafka_claim, gap_from=None, gap_reason="")
        if gaps := [replace(claim, runs=_NO_RUNS) for claim in of_kafka if claim.gap_from is not None]:
            self._gaps.append(Abridged(commit.version, commit.ingested_at_us, 0, kafka.encode_claims(gaps)))

    def abridged(self) -> tuple[Abridged, ...]:
        """Claims that stand for those of all commits taken in so far."""
        claims = [
            files.encode_claims(self._files.values()) if self._files else {},
            kafka.encode_claims(self._partitions.values()) if self._partitions else {},
        ]
        newest = [Abridged(self._version, self._ingested_at_us, 0, some) for some in claims if some]
        if newest:
            newest[-1] = replace(newest[-1], events=self._events)
        return (*self._gaps, *newest)
