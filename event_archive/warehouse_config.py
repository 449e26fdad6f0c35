"""What the configuration may say about computing tables: how much of the machine that may use, and when the result is published.

What doesn't live here: reading the file and placing its mistakes (`config`), and computing anything (`recompute`, `warehouse`).
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import Field

from event_archive.source_config import Bytes, Section

if TYPE_CHECKING:
    from pathlib import Path


class PublishPolicy(StrEnum):
    """When a finished build of the warehouse is published."""

    ALWAYS = "always"
    """Whatever differs."""
    IF_EQUAL = "if_equal"
    """When every mart that was published before is there with the same rows; new marts are fine."""
    ASK = "ask"
    """When nothing differs, or a person who has seen the difference says so."""


_BYTES_AT_ONCE = 2 * 10**9
"""Memory for each model or check that is computed at the same time."""


class ComputeConfig(Section):
    """How much of the machine a refresh or rebuild may use."""

    threads: int | None = Field(
        default=None, ge=1, le=1024, description="How many threads compute; by default one per core"
    )
    memory_bytes: Bytes | None = Field(
        default=None,
        ge=128 * 2**20,
        description="How much DuckDB holds in memory before it spills to disk, such as 2 GB; by default 80 % of the machine's. "
        "The process as a whole takes some 0.5 GB more",
    )
    max_spill_bytes: Bytes | None = Field(
        default=None,
        ge=1,
        description="How much is spilled at most, such as 100 GB; by default 90 % of what is free on the warehouse's disk",
    )

    def settings(self, *, spill: Path) -> dict[str, str]:
        """The same as settings of a DuckDB connection.

        Args:
            spill: A folder for what is spilled; DuckDB makes it and empties it.
        """
        settings = {"threads": str(self.threads or os.cpu_count() or 1), "temp_directory": str(spill)}
        if self.memory_bytes is not None:
            settings["memory_limit"] = f"{self.memory_bytes}B"
        if self.max_spill_bytes is not None:
            settings["max_temp_directory_size"] = f"{self.max_spill_bytes}B"
        return settings

    def environment(self, *, spill: Path) -> dict[str, str]:
        """The variables by which dbt's profile (`dbt_project/profiles.yml`) is told this.

        Args:
            spill: A folder for what is spilled; DuckDB makes it and empties it.
        """
        threads = self.threads or os.cpu_count() or 1
        # The threads of one model or check share its memory; another one beside it needs its own.
        at_once = threads if self.memory_bytes is None else self.memory_bytes // _BYTES_AT_ONCE
        variables = {
            "EVENT_ARCHIVE_THREADS": str(threads),
            "EVENT_ARCHIVE_AT_ONCE": str(max(1, min(threads, at_once))),
            "EVENT_ARCHIVE_SPILL": str(spill),
        }
        if self.memory_bytes is not None:
            variables["EVENT_ARCHIVE_MEMORY"] = f"{self.memory_bytes}B"
        if self.max_spill_bytes is not None:
            variables["EVENT_ARCHIVE_MAX_SPILL"] = f"{self.max_spill_bytes}B"
        return variables
