"""What the staging models of a stream are made of, and in which order their columns stand.

What doesn't live here: their SQL (`staging_sql`) and their descriptions (`staging_yml`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.scaffold.fields import Columns
    from event_archive.schema.model import StreamSchema

ENVELOPE_ADDED = (
    "source_id",
    "source_partition",
    "source_offset",
    "commit_version",
    "ingested_at",
    "source_time",
)


@dataclass(frozen=True, slots=True)
class Staging:
    """What the models of a stream are made of.

    Attributes:
        domain: Folder and first part of the models' names.
        stream: The stream.
        columns: Their columns.
        schema: What the payloads said.
    """

    domain: str
    stream: str
    columns: Columns
    schema: StreamSchema

    @property
    def model(self) -> str:
        """Name of the view of accepted events; the others have it with an ending."""
        return f"stg_{self.domain}__{self.stream}"


def payload_names(staging: Staging) -> list[str]:
    """Columns from the payload; a timestamp has its offset beside it."""
    names = [] if staging.columns.has_event_id else ["event_id"]
    for field in staging.columns.fields:
        names += [field.name, f"{field.name}_utc_offset"] if field.type == "timestamp" else [field.name]
    return names


def identity(staging: Staging) -> list[str]:
    """Columns that tell a rejected or doubled event apart."""
    return ["event_id", "event_type"] if staging.columns.event_types else ["event_id"]


def whole(lines: Iterable[str]) -> str:
    """A file of these lines."""
    return "\n".join(lines) + "\n"
