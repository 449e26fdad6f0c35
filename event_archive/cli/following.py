"""Several streams ingested by one command: one after the other, or all at once until a signal comes.

What doesn't live here: the ingest of a stream (`event_archive.ingest`).
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive.cli import render
from event_archive.errors import EventArchiveError, UsageError
from event_archive.ingest import Follow, IngestResult, Progress, ingest_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.config import Config


@dataclass(slots=True)
class Outcome:
    """What came of several ingests."""

    results: list[IngestResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def one_after_the_other(
    config: Config, streams: list[str], *, settled: bool, on_progress: Callable[[Progress], None]
) -> Outcome:
    """Ingests what is there now; a stream that fails doesn't keep the others from their turn."""
    outcome = Outcome()
    for name in streams:
        try:
            outcome.results.append(ingest_stream(config, name, settled=settled, on_progress=on_progress))
        except UsageError:
            raise
        except EventArchiveError as error:
            outcome.failures.append(f"{name}: {error}")
    return outcome


def following(
    config: Config,
    streams: list[str],
    *,
    max_latency_seconds: float,
    settled: bool,
    on_progress: Callable[[Progress], None],
) -> Outcome:
    """Ingests until SIGTERM or SIGINT; a stream that fails ends for itself, and its failure is told at once."""
    stop = threading.Event()
    follow = Follow(stop, max_latency_seconds)
    outcome = Outcome()
    errors: list[UsageError] = []

    def tell(name: str, error: Exception) -> None:
        if len(streams) > 1:
            render.complain(f"{name}: {error} The other streams go on.")

    def run(name: str) -> None:
        try:
            result = ingest_stream(
                config,
                name,
                settled=settled,
                follow=follow,
                on_progress=on_progress,
                on_warning=render.complain,
            )
            outcome.results.append(result)
        except UsageError as error:
            errors.append(error)
            tell(name, error)
        except EventArchiveError as error:
            outcome.failures.append(f"{name}: {error}")
            tell(name, error)
        except Exception as error:
            tell(name, error)
            raise

    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with ThreadPoolExecutor(len(streams)) as pool:
            list(pool.map(run, streams))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if errors:
        raise errors[0]
    return outcome
