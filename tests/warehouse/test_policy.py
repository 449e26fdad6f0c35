"""What decides whether a finished build is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from event_archive.warehouse import BuildDiff, MartDiff, decide
from event_archive.warehouse.diff_rows import RowsDiff
from event_archive.warehouse_config import PublishPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = RowsDiff((), 1, 0, 0, {}, (), (), ())
SAME = MartDiff("same", is_in_a=True, is_in_b=True, rows_a=1, rows_b=1)
CHANGED = MartDiff("changed", is_in_a=True, is_in_b=True, rows_a=1, rows_b=2, rows=ROWS)
RETYPED = MartDiff(
    "retyped", is_in_a=True, is_in_b=True, rows_a=1, rows_b=1, columns_retyped={"seat": ("BIGINT", "VARCHAR")}
)
NEW = MartDiff("new", is_in_a=False, is_in_b=True, rows_a=None, rows_b=2)
GONE = MartDiff("gone", is_in_a=True, is_in_b=False, rows_a=1, rows_b=None)


def published(policy: PublishPolicy, *marts: MartDiff, confirm: Callable[[], bool] | None = None) -> bool:
    """Whether a build that differs so is published."""
    return decide(policy, "the-build", BuildDiff("a", "b", marts), confirm).is_published


def test_always_means_whatever_differs() -> None:
    """It is the default: publishing is what builds are for."""
    assert published(PublishPolicy.ALWAYS, CHANGED, GONE, RETYPED)


@pytest.mark.parametrize("policy", list(PublishPolicy))
def test_the_first_build_and_one_that_changes_nothing_are_published(policy: PublishPolicy) -> None:
    """There is no history that they could change, and nobody is asked."""
    assert decide(policy, "the-build", None).is_published
    assert published(policy, SAME)


def test_if_equal_publishes_new_marts_and_nothing_that_changes_old_ones() -> None:
    """The reason names what would change, and the command that publishes all the same."""
    assert published(PublishPolicy.IF_EQUAL, SAME, NEW)
    for mart in (CHANGED, RETYPED, GONE):
        assert not published(PublishPolicy.IF_EQUAL, SAME, NEW, mart)
        reason = decide(PublishPolicy.IF_EQUAL, "the-build", BuildDiff("a", "b", (NEW, mart))).reason
        assert f"it would change {mart.mart}," in reason
        assert "`event-archive publish the-build`" in reason


def test_ask_asks_once_and_waits_when_there_is_nobody_to_ask() -> None:
    """Also about a new mart: that is a difference too."""
    asked: list[bool] = []

    def answer(*, says: bool) -> Callable[[], bool]:
        def confirm() -> bool:
            asked.append(says)
            return says

        return confirm

    assert published(PublishPolicy.ASK, CHANGED, confirm=answer(says=True))
    assert not published(PublishPolicy.ASK, NEW, confirm=answer(says=False))
    assert asked == [True, False]
    waits = decide(PublishPolicy.ASK, "the-build", BuildDiff("a", "b", (CHANGED,)))
    assert not waits.is_published
    assert "nobody to ask. `event-archive publish the-build`" in waits.reason
    assert asked == [True, False]
