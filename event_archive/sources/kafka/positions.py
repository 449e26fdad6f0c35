"""How far each partition of a topic is archived: the fold of what the commits claim.

A partition is named by its `source_id` and number: `kafka://<cluster id>/<topic>`, and `kafka://<cluster id>/<topic>#2`
for its second generation, which an operator accepted after the topic had been made anew or had lost events that the
archive has. A topic's name holds no `#`.

A claim says of one partition: from `first_offset` up to `next_offset` everything that the broker had is archived; `runs`
are the offsets that held an event, and the rest are known holes, since the broker was read across them. Offsets from
`gap_from` up to `first_offset` were gone before they could be read: a gap.

What doesn't live here: what the broker has now (`topic`).
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from event_archive.archive.log import Commit

_SOURCE_ID = re.compile(r"kafka://([^/]+)/([A-Za-z0-9._-]+)(?:#([0-9]+))?")
_COLUMNS = (
    "partition",
    "gap_from",
    "gap_reason",
    "first_offset",
    "next_offset",
    "records",
    "runs",
    "anchor_offset",
    "anchor_digest",
)
NO_OFFSET = -1


@dataclass(frozen=True, slots=True)
class PartitionClaim:
    """What one commit says of one partition."""

    source_id: str
    topic_id: str
    """Kafka's own id of the topic: another one means another topic, whatever its name."""
    partition: int
    first_offset: int
    next_offset: int
    runs: npt.NDArray[np.int64]
    """Shape (runs, 2), ascending: first offset and number of events of each stretch without a hole."""
    gap_from: int | None = None
    """First offset that was gone; None if there is no gap before `first_offset`."""
    gap_reason: str = ""
    anchor_offset: int = NO_OFFSET
    """Offset of the newest archived event of the partition, which is read again before going on."""
    anchor_digest: str = ""
    """What that event must be; see `records.record_digest`."""

    @property
    def records(self) -> int:
        """Number of events that this commit brought of the partition."""
        return int(self.runs[:, 1].sum())


class Positions:
    """The newest claim on each partition of one topic; give its `note` to `read_snapshot`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.by_partition: dict[int, PartitionClaim] = {}
        self.generation = 0
        """The highest of the topic, 0 if nothing of it was ever archived."""

    def note(self, commit: Commit) -> None:
        """Takes in the claims of the next commit."""
        for claim in decode_claims(commit.claims):
            self.put(claim)

    def put(self, claim: PartitionClaim) -> None:
        """Replaces what was claimed of the partition before."""
        _, topic, generation = decode_source_id(claim.source_id)
        if topic == self.topic:
            self.by_partition[claim.partition] = claim
            self.generation = max(self.generation, generation)


def encode_source_id(cluster_id: str, topic: str, generation: int = 1) -> str:
    """Source id of a topic."""
    return f"kafka://{cluster_id}/{topic}" + (f"#{generation}" if generation > 1 else "")


def decode_source_id(source_id: str) -> tuple[str, str, int]:
    """Cluster id, topic and generation of a source id.

    Raises:
        ValueError: it is no topic's.
    """
    match = _SOURCE_ID.fullmatch(source_id)
    if match is None:
        raise ValueError(f"{source_id!r} names no topic")
    return match.group(1), match.group(2), int(match.group(3) or 1)


def is_of_kafka(claims: dict[str, list[Any]]) -> bool:
    """Whether the claims of a commit are about partitions of topics."""
    return "topics" in claims


def encode_claims(claims: Iterable[PartitionClaim]) -> dict[str, list[Any]]:
    """Claims as the columns that a log entry carries, one item per claim, and the topics that they are about."""
    listed = list(claims)
    topics = {
        key: number for number, key in enumerate(dict.fromkeys((c.source_id, c.topic_id) for c in listed))
    }
    columns: dict[str, list[Any]] = {
        "topics": [list(key) for key in topics],
        "topic": [topics[c.source_id, c.topic_id] for c in listed],
    }
    for name in _COLUMNS:
        columns[name] = [_encode_runs(c) if name == "runs" else getattr(c, name) for c in listed]
    return columns


def decode_claims(claims: dict[str, list[Any]]) -> list[PartitionClaim]:
    """The inverse of `encode_claims`; claims about other kinds of sources give none."""
    if not is_of_kafka(claims):
        return []
    decoded = []
    for topic, partition, gap_from, reason, first, after, records, runs, anchor, digest in zip(
        claims["topic"], *(claims[name] for name in _COLUMNS), strict=True
    ):
        source_id, topic_id = claims["topics"][topic]
        decoded.append(
            PartitionClaim(
                source_id=source_id,
                topic_id=topic_id,
                partition=partition,
                first_offset=first,
                next_offset=after,
                runs=_decode_runs(runs, first, records),
                gap_from=gap_from,
                gap_reason=reason,
                anchor_offset=anchor,
                anchor_digest=digest,
            )
        )
    return decoded


def runs_of(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ascending offsets as stretches without a hole: shape (runs, 2), first offset and length of each."""
    if not len(offsets):
        return np.empty((0, 2), np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(offsets) != 1) + 1])
    lengths = np.diff(starts, append=len(offsets))
    return np.column_stack([offsets[starts], lengths])


def join_runs(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Runs of neighbouring stretches as one array; what touches becomes one run."""
    runs = np.concatenate(parts) if parts else np.empty((0, 2), np.int64)
    if len(runs) < 2:  # noqa: PLR2004 - two can touch
        return runs
    starts = np.concatenate([[True], runs[1:, 0] != runs[:-1, 0] + runs[:-1, 1]])
    groups = np.cumsum(starts) - 1
    lengths = np.zeros(int(groups[-1]) + 1, np.int64)
    np.add.at(lengths, groups, runs[:, 1])
    return np.column_stack([runs[starts, 0], lengths])


def _encode_runs(claim: PartitionClaim) -> str:
    """Empty if all events stand together from the first offset on, as they nearly always do."""
    runs = claim.runs
    if not len(runs) or (len(runs) == 1 and runs[0, 0] == claim.first_offset):
        return ""
    ends = np.concatenate([[claim.first_offset], (runs[:, 0] + runs[:, 1])[:-1]])
    steps = np.column_stack([runs[:, 0] - ends, runs[:, 1]]).astype("<i8")
    return base64.b64encode(zlib.compress(steps.tobytes())).decode()


def _decode_runs(text: str, first_offset: int, records: int) -> npt.NDArray[np.int64]:
    if not text:
        return np.array([[first_offset, records]] if records else np.empty((0, 2)), np.int64)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").reshape(-1, 2)
    ends = first_offset + np.cumsum(steps.sum(axis=1))
    return np.column_stack([ends - steps[:, 1], steps[:, 1]]).astype(np.int64)
