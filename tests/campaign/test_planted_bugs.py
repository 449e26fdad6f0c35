"""The list of planted bugs keeps up with the code that they are planted into."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from campaign.mutations import BUGS, Bug
from campaign.planted_bugs import planted
from campaign.rows import ROWS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted_and_its_tests_exist(bug: Bug) -> None:
    """What it replaces stands in our code exactly once."""
    for edit in bug.edits:
        before = (ROOT / edit.file).read_text()
        assert planted(before, edit) != before
    named = [test for test in bug.tests if test.startswith("tests/")]
    assert named
    for file, _, test in (test.partition("::") for test in named):
        assert re.search(rf"^def {test}\b" if test else "^def test_", (ROOT / file).read_text(), re.MULTILINE)


def test_every_row_of_the_campaign_has_a_bug_to_catch() -> None:
    """A campaign that can't catch a planted bug proves nothing."""
    assert {row.number for row in ROWS} == {bug.row for bug in BUGS if bug.row is not None}


def test_no_two_bugs_have_one_name() -> None:
    """`--only` chooses by it."""
    assert len({bug.name for bug in BUGS}) == len(BUGS)
