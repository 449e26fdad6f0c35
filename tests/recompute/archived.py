"""Events of a history as the archive keeps them. What doesn't live here: what a warehouse makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from event_archive.envelope import EVENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.recompute.histories import Event

_NOW = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass
class Positions:
    """Which commit comes next, and which position in each source."""

    commits: Counter[str] = field(default_factory=Counter)
    offsets: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def rows(self, stream: str, events: Sequence[Event]) -> pa.Table:
        """The events as the next commit of their stream, in the columns of the envelope."""
        columns: dict[str, list[Any]] = {
            "source_id": [event.source for event in events],
            "source_partition": [event.partition for event in events],
            "source_offset": [],
            "value": [event.value for event in events],
            "ingested_at": [_NOW] * len(events),
            "ingest_date": [_NOW.date()] * len(events),
            "commit_version": [self.commits[stream]] * len(events),
        }
        for event in events:
            place = (stream, event.source, event.partition)
            columns["source_offset"].append(self.offsets[place])
            self.offsets[place] += 1
        self.commits[stream] += 1
        nothing = [None] * len(events)
        return pa.table(
            [pa.array(columns.get(column.name, nothing), column.type) for column in EVENT_SCHEMA],
            schema=EVENT_SCHEMA,
        )
