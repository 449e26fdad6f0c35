"""The bugs that `planted_bugs` puts into a copy of our code, one at a time, and the tests that must turn red.

A text that is to be replaced must stand in its file exactly once, so that the list can't quietly fall behind the code; a
test holds it to that. What doesn't live here: planting them (`planted_bugs`).
"""

from __future__ import annotations

from campaign.mutations.bug import Bug, Edit
from campaign.mutations.compaction import KEEPING_SMALL
from campaign.mutations.copies import COPIES
from campaign.mutations.crash import CRASHES
from campaign.mutations.exact_records import EXACT_RECORDS
from campaign.mutations.exactly_once import EXACTLY_ONCE
from campaign.mutations.files import FILES_EXACTLY_ONCE
from campaign.mutations.proof import DURABILITY_AND_PROOF
from campaign.mutations.recompute import RECOMPUTE
from campaign.mutations.sealing import SEALING
from campaign.mutations.verifying import PROOF_OF_ALL

__all__ = ["BUGS", "Bug", "Edit"]

BUGS = (
    *EXACTLY_ONCE,
    *EXACT_RECORDS,
    *DURABILITY_AND_PROOF,
    *PROOF_OF_ALL,
    *SEALING,
    *CRASHES,
    *KEEPING_SMALL,
    *COPIES,
    *FILES_EXACTLY_ONCE,
    *RECOMPUTE,
)
