"""Ingest of a landing folder, as an operation that is interrupted at each call. What doesn't live here: interrupting it (`points`)."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from campaign.crash.archived import (
    STREAM,
    check_archive,
    config,
    configure,
    newest_acknowledged,
    note_prepared,
    snapshot,
)
from campaign.crash.operations import Acknowledge, After, Fact, Operation
from event_archive.errors import SourceProblem
from event_archive.ingest import Progress, ingest_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_AN_HOUR_NS = 3_600_000_000_000
_LINES = 30


def land(folder: Path, names: Sequence[str], *, seed: int) -> None:
    """Appends lines that are all different to files of the landing folder, an hour ago."""
    generator = random.Random(seed)
    for name in names:
        path = folder / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(b'{"n":%d,"r":"%x"}\n' % (n, generator.getrandbits(400)) for n in range(_LINES))
        then = path.stat().st_mtime_ns - _AN_HOUR_NS
        os.utime(path, ns=(then, then))


def land_and_ingest(folder: Path, names: Sequence[str], *, seed: int) -> None:
    """The same, and archives them."""
    land(folder, names, seed=seed)
    ingest_stream(config(folder), STREAM)


def ingest(folder: Path, acknowledge: Acknowledge) -> None:
    """Ingests everything; each commit is acknowledged as soon as the ingest says so."""
    before = max(snapshot(folder).version, 0)

    def show(progress: Progress) -> None:
        if progress.commits:
            acknowledge({"version": before + progress.commits})

    result = ingest_stream(config(folder), STREAM, on_progress=show)
    if result.problems:  # a fault that hit a landing file: it says so, and the next ingest takes it
        raise SourceProblem("; ".join(map(str, result.problems)))
    acknowledge({"version": result.version})


def _prepare_first(folder: Path) -> None:
    configure(folder)
    land(folder, ["a/1.jsonl", "a/2.jsonl", "b/3.jsonl", "b/4.jsonl", "5.jsonl"], seed=1)


def _prepare_more(folder: Path) -> None:
    _prepare_first(folder)
    ingest_stream(config(folder), STREAM)
    note_prepared(folder)
    land(folder, ["a/1.jsonl", "5.jsonl", "c/6.jsonl", "c/7.jsonl"], seed=2)


def _check(folder: Path, acknowledged: Sequence[Fact], after: After) -> int:
    version = newest_acknowledged(folder, acknowledged)
    return check_archive(folder, acknowledged=version, after=after, may_lack=after == "a crash")


OPERATIONS = (
    Operation("first-ingest", _prepare_first, ingest, _check),
    Operation("ingest", _prepare_more, ingest, _check),
)
