"""Which commits archived events on given days; what doesn't live here: what is computed again for them (the models' macros)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from event_archive.archive.history import iter_commits

if TYPE_CHECKING:
    from event_archive.config import Config


def commits_ingested(config: Config, days: tuple[dt.date, dt.date]) -> dict[str, tuple[int, int]]:
    """Per stream the first and the last commit of events that were archived on these days (UTC); streams without any are left out.

    Args:
        config: The configuration.
        days: First and last day.

    Raises:
        ArchiveDamaged: A log can't be read.
    """
    last = min(days[1], dt.date.max - dt.timedelta(days=1))
    begin_us, end_us = (_midnight_us(day) for day in (days[0], last + dt.timedelta(days=1)))
    found: dict[str, tuple[int, int]] = {}
    for name in config.streams:
        for commit in iter_commits(config.table(name)):
            if commit.events and begin_us <= commit.ingested_at_us < end_us:
                first, _ = found.get(name, (commit.version, commit.version))
                found[name] = (first, commit.version)
    return found


def _midnight_us(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp()) * 1_000_000
