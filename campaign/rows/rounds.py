"""Parts of rows that are done once for each round."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign.report import RowReport
    from campaign.world import Campaign


def every_round(part: Callable[[Campaign, RowReport], None]) -> Callable[[Campaign, RowReport], None]:
    """Does a part as often as there are rounds, in a new world each time."""

    @functools.wraps(part)
    def repeated(campaign: Campaign, row: RowReport) -> None:
        for _ in range(campaign.settings.rounds):
            part(campaign, row)

    return repeated
