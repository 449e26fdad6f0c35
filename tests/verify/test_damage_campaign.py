"""A quick version of the campaign's row about damaged archives: each damage is named with what it affects, or proved harmless.

`make campaign` runs the long version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from campaign.report import RowReport
from campaign.rows import ROWS, damaged
from campaign.settings import QUICK
from campaign.world import Campaign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """A quick campaign without a broker."""
    nobody = cast("Any", None)
    return Campaign(tmp_path, nobody, None, nobody, QUICK)


def run(campaign: Campaign, part: Callable[[Campaign, RowReport], None]) -> RowReport:
    """Runs a part of the row."""
    (row,) = (row for row in ROWS if part in row.parts)
    assert not row.needs_broker
    report = RowReport(row.number, row.title)
    part(campaign, report)
    return report


def test_every_flipped_bit_is_named_with_what_it_affects(campaign: Campaign) -> None:
    """In data files, entries, segments, states, checkpoints and the pointer to the newest."""
    report = run(campaign, damaged.flip)
    assert sum(report.done.values()) == QUICK.flips
    assert {told.rpartition(", ")[2] for told in report.done} == {
        "data",
        "entry",
        "segment",
        "state",
        "checkpoint",
        "pointer",
    }


def test_a_file_cut_emptied_lengthened_dropped_swapped_or_replaced_is_named(campaign: Campaign) -> None:
    """Or it's one that nobody needs."""
    run(campaign, damaged.mangle)


def test_newest_entries_that_were_dropped_are_seen_with_a_head(campaign: Campaign) -> None:
    """Whether or not their data files are still there."""
    run(campaign, damaged.cut_off)


def test_an_edited_entry_is_named_though_its_own_checksum_is_right(campaign: Campaign) -> None:
    """And one that leads outside of the table."""
    run(campaign, damaged.forge)


def test_nothing_expires_and_foreign_files_are_harmless(campaign: Campaign) -> None:
    """60 days later, and with a checkpoint of another writer."""
    run(campaign, damaged.age)
