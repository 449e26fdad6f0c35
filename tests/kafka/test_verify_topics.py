"""Proof of what is archived of topics: offsets, holes and gaps as the commits claim them, held against rows and each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from event_archive.sources.kafka import ingest as kafka_ingest
from event_archive.sources.kafka.positions import (
    PartitionClaim,
    decode_claims,
    encode_claims,
    join_runs,
    runs_of,
)
from event_archive.verify import verify_stream
from tests.kafka.topics import configure, numbered, produce

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import CreateTopic


def shifted(claim: PartitionClaim, by: int) -> PartitionClaim:
    """A claim on other offsets than were read."""
    runs = claim.runs + np.array([by, 0])
    return replace(claim, first_offset=claim.first_offset + by, next_offset=claim.next_offset + by, runs=runs)


@pytest.mark.parametrize(
    ("lie", "finding"),
    [
        (lambda claim: replace(claim, first_offset=claim.first_offset - 1), "commits before it end"),
        (lambda claim: shifted(claim, 3), "commits before it end"),
        (lambda claim: shifted(claim, 3), "other values of source_offset"),
        (lambda claim: replace(claim, partition=7), "other values of source_partition"),
        (lambda claim: replace(claim, source_id="kafka://other/topic"), "other values of source_id"),
        (lambda claim: replace(claim, next_offset=claim.next_offset - 5), "overlap or lead outside"),
        (lambda claim: replace(claim, runs=claim.runs - np.array([0, 1])), "events by position and"),
    ],
    ids=["overlap", "jump", "offsets", "partition", "source", "outside", "count"],
)
def test_a_commit_that_claims_other_offsets_than_its_rows_have_is_found(  # noqa: PLR0917 - fixtures
    lie: Callable[[PartitionClaim], PartitionClaim],
    finding: str,
    project: Project,
    kafka: Kafka,
    create_topic: CreateTopic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although every hash is right, since the lie was there before the hashes were made."""
    topic = create_topic(2)
    configure(project, kafka.bootstrap, topic)
    for partition in range(2):
        produce(kafka.bootstrap, topic, numbered(0, 20, partition=partition))
    project.ingest()
    assert verify_stream(project.config(), "events").damages == ()
    produce(kafka.bootstrap, topic, numbered(20, 20))

    def lying(claims: list[PartitionClaim]) -> dict[str, list[Any]]:
        return encode_claims([lie(claim) for claim in claims])

    monkeypatch.setattr(kafka_ingest, "encode_claims", lying)
    project.ingest()
    damages = [str(damage) for damage in verify_stream(project.config(), "events").damages]
    assert any(finding in damage for damage in damages), damages


@pytest.mark.parametrize(
    "offsets",
    [[], [5], [5, 6, 7], [8, 9], [5, 7, 9], [6, 7, 20, 21, 22, 900_000_000_000]],
    ids=str,
)
def test_claims_come_back_from_the_log_as_they_were(offsets: list[int]) -> None:
    """Whatever holes there are, before, between and behind the events."""
    claim = PartitionClaim(
        "kafka://c/t#3", "id", 4, 5, 900_000_000_009, runs_of(np.array(offsets, np.int64)), 2, "why", 7, "ab"
    )
    (decoded,) = decode_claims(encode_claims([claim]))
    assert decoded.runs.tolist() == claim.runs.tolist()
    assert replace(decoded, runs=claim.runs) == claim


def test_runs_that_touch_become_one() -> None:
    """So that a long history without holes is one stretch."""
    parts = [np.array([[0, 5], [7, 2]]), np.array([[9, 1]]), np.array([[12, 3]])]
    assert join_runs(parts).tolist() == [[0, 5], [7, 3], [12, 3]]
