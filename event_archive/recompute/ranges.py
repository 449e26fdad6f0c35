"""Ranges of days: as people write them, and which commits archived events on them.

What doesn't live here: what is computed again for them (the models' macros).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from event_archive.archive.history import iter_commits
from event_archive.errors import UsageError

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


def range_of_days(asked_as: str, text: str | None) -> tuple[dt.date, dt.date] | None:
    """Read a range of days as people write it, `2026-01-01..2026-01-31` or one day; None if nothing is asked for.

    Args:
        asked_as: The name of the option, for the error.
        text: What it says.

    Raises:
        UsageError: It is no range.
    """
    if text is None:
        return None
    first, dots, last = text.partition("..")
    try:
        days = dt.date.fromisoformat(first), dt.date.fromisoformat(last if dots else first)
    except ValueError:
        raise UsageError(
            f"{asked_as} {text}: write two days, such as 2026-01-01..2026-01-31, or one."
        ) from None
    if days[0] > days[1]:
        raise UsageError(f"{asked_as} {text}: the first day comes after the last.")
    return days
