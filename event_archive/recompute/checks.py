"""Checks of the published tables alone: nothing is computed, and nothing published.

What doesn't live here: checks of a build before it is published; they are a part of computing it (`run`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from event_archive.errors import UsageError
from event_archive.recompute.as_of import LIVE, pin_as_of
from event_archive.recompute.project import read_project
from event_archive.recompute.run import PATIENCE_SECONDS
from event_archive.warehouse import BuildMode, published_file, start_build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from event_archive.config import Config
    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.run import Fill


def run_checks(config: Config, select: Sequence[str], *, fill: Fill) -> DbtRun:
    """Run some checks over a copy of the published tables, beside the state of the archive that they are of.

    Args:
        config: The configuration.
        select: dbt's selection of checks, such as `fqn:unique_carts_cart_id`.
        fill: How dbt is run.

    Raises:
        UsageError: Nothing is published yet.
        ProjectUnreadable: The models can't be read.
        WarehouseBusy: A build is under way, still after 15 minutes.
        StorageError: The disk is full or refused.
    """
    project = read_project(config.models)
    if published_file(config.warehouse) is None:
        raise UsageError("There are no tables yet that could be checked; run `event-archive refresh` first.")
    # dbt writes into the file that it works on: hence a copy.
    pin = partial(pin_as_of, config, LIVE, of_a_part=True)
    with start_build(
        config.warehouse, mode=BuildMode.REFRESH, streams=pin, wait_seconds=PATIENCE_SECONDS
    ) as build:
        ran = fill(project, build, ["test", "--select", *select])
        build.discard("only checks were asked for")
        return ran
