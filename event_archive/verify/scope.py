"""Which data files a proof reads: all, those that are new, a share of them, or none.

What doesn't live here: reading them (`files`).
"""

from __future__ import annotations

import datetime as dt
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from event_archive.archive.log import DataFile

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")
_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Scope:
    """What a proof is asked to look at; the whole log always."""

    since: int | dt.datetime | None = None
    """Only files that commits after this version, or after this time, brought."""
    is_quick: bool = False
    """No data file is read: sizes and existence only."""
    is_deep: bool = False
    """All columns are decoded, and the row digests computed anew."""
    sample: float | None = None
    """Only files with about this share of the bytes, drawn by `seed`."""
    seed: int | None = None
    """None for one that is drawn, too."""

    def in_words(self, seed: int | None) -> str:
        """For people."""
        if self.is_quick:
            return "log, sizes and existence; no file was read"
        words = "all" if self.sample is None else f"a sample of {self.sample:.3%} of the bytes, seed {seed}"
        if self.since is not None:
            after = f"commit {self.since}" if isinstance(self.since, int) else self.since.isoformat()
            words += f", of the files that came after {after}"
        return words + (", every column" if self.is_deep else "")


def parse_since(text: str) -> int | dt.datetime:
    """What `--since` says: a commit, or a time with its zone.

    Raises:
        UsageError: it is neither.
    """
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise UsageError(
            f"--since {text}: write the version of a commit, or a time with its zone, for example 2026-01-31T12:00:00Z."
        )
    return time


def parse_share(text: str) -> float:
    """What `--sample` says: above 0 %, up to 100 %.

    Raises:
        UsageError: it is no such share.
    """
    match = _SHARE.fullmatch(text.strip())
    share = float(match.group(1)) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--sample {text}: write a share above 0 % and up to 100 %, for example 5%.")
    return share


def chosen_files(
    active: Mapping[str, DataFile], came_after: Callable[[int], Callable[[int], bool]], scope: Scope
) -> tuple[set[str], int | None]:
    """Paths of the files to read, and the seed by which they were drawn.

    Args:
        active: the files that are part of the table.
        came_after: given a time in microseconds since 1970, tells of versions whether they came after it.
        scope: what was asked for.
    """
    if scope.is_quick:
        return set(), None
    files = list(active.values())
    if isinstance(scope.since, int):
        files = [file for file in files if file.commit_version > scope.since]
    elif scope.since is not None:
        since_us = (scope.since - _EPOCH) // _MICROSECOND
        is_after = came_after(since_us)
        files = [file for file in files if is_after(file.commit_version)]
    if scope.sample is None:
        return {file.path for file in files}, None
    seed = random.SystemRandom().randrange(_SEEDS) if scope.seed is None else scope.seed
    random.Random(seed).shuffle(files := sorted(files, key=lambda file: file.path))  # noqa: S311 - repeatable by its seed
    enough = scope.sample * sum(file.size_bytes for file in files)
    chosen: set[str] = set()
    drawn = 0
    for file in files:
        if drawn >= enough and chosen:
            break
        chosen.add(file.path)
        drawn += file.size_bytes
    return chosen, seed
