"""The property itself: whatever happens to an archive and its tables, a last refresh leaves what one rebuild gives, row for row.

What doesn't live here: tests of it, and how often it is looked at.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.recompute.histories import STREAMS, Backfill, History, Refresh, histories
from tests.recompute.replay import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tests.recompute.replay import Contents, ReplayedWarehouse


class NotEqual(AssertionError):
    """A history after which a refresh in steps does not give what a rebuild gives."""

    def __init__(self, history: History, found: dict[str, tuple[list[str], list[str]]]) -> None:
        self.history = history
        self.found = found
        lines = ["after this history"]
        lines += [f"    {step}" for step in history]
        for relation, (too_many, missing) in found.items():
            lines.append(f"{relation}: incremental has {too_many}, a rebuild has {missing}")
        super().__init__("\n".join(lines))


def both_ways(warehouse: ReplayedWarehouse, history: History) -> tuple[Contents, Contents]:
    """Plays a history, ends it with a refresh of all; gives what is there then, and what a rebuild of the same archive gives."""
    warehouse.play(history)
    warehouse.refresh()
    in_steps, digests = warehouse.contents(), warehouse.digests
    warehouse.throw_away()
    warehouse.turn_archive_around()
    warehouse.refresh()
    assert digests == warehouse.digests
    return in_steps, warehouse.contents()


def check_histories(
    warehouse: ReplayedWarehouse,
    *,
    examples: int,
    number: int,
    streams: Sequence[str] = STREAMS,
    relations: Collection[str] = (),
    ending: History = (),
    seen: Callable[[History], None] = lambda _: None,
    shrink_seconds: float = 60,
) -> None:
    """Looks at some histories.

    Args:
        warehouse: Whose statements are played.
        examples: How many.
        number: Which ones: the same number gives the same histories.
        streams: Those that get events.
        relations: What has to be equal; empty: everything.
        ending: Steps that each history ends with.
        seen: Gets each history before it is played.
        shrink_seconds: How long to look for a simpler history when one has failed.

    Raises:
        NotEqual: For the simplest history that was found to fail.
    """
    models = [model.name for model in warehouse.statements.models]
    failed: dict[History, NotEqual] = {}
    until = 0.0

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink_seconds else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(histories(models, streams).map(lambda history: (*history, *ending)))
    def check(history: History) -> None:
        nonlocal until
        if history in failed:
            raise failed[history]
        if failed and time.monotonic() > until:
            return
        seen(history)
        found = differences(*both_ways(warehouse, history))
        wrong = {name: rows for name, rows in found.items() if not relations or name in relations}
        if wrong:
            until = until or time.monotonic() + shrink_seconds
            failed[history] = NotEqual(history, wrong)
            raise failed[history]

    check()


def some_histories(models: Sequence[str], *, count: int, number: int) -> list[History]:
    """Gives histories in which no run is killed and no range is asked for, to be played by the real dbt too."""
    found: list[History] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories(models))
    def note(history: History) -> None:
        found.append(
            tuple(
                replace(step, killed_after=None) if isinstance(step, Refresh) else step
                for step in history
                if not isinstance(step, Backfill)
            )
        )

    note()
    return sorted(found, key=lambda history: -len(history))


def counterexample(
    warehouse: ReplayedWarehouse, *, examples: int, relation: str, streams: Sequence[str] = STREAMS
) -> NotEqual | None:
    """Looks for a history that shows that a relation isn't computed rightly.

    Args:
        warehouse: Whose statements are played.
        examples: How many histories to try.
        relation: The one.
        streams: Those that get events.

    Returns:
        The first that was found; None: each of the histories leaves the relation as a rebuild gives it.
    """
    try:
        check_histories(
            warehouse, examples=examples, number=1, streams=streams, relations=[relation], shrink_seconds=0
        )
    except NotEqual as error:
        return error
    return None
