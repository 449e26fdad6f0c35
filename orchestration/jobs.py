"""The jobs over assets and checks: `ingest`, `refresh`, `rebuild`, `verify_archive`.

What doesn't live here: when they run (`schedules`), what a step does (the assets and checks), and publishing by itself (`publishing`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import AssetSelection
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.archive_checks import IS_WHOLE, LOOKS_RIGHT
from orchestration.assets_ingest import EVERYTHING_READ
from orchestration.assets_warehouse import WAREHOUSE_OP
from orchestration.topic_checks import LAG_BELOW, MATCHES_BROKER, NO_GAPS


@dataclass(frozen=True)
class Jobs:
    """All jobs, by what they are for.

    Attributes:
        ingest: Archive what the sources have.
        refresh: Add what is new to the tables.
        rebuild: Compute the tables again.
        verify_archive: Prove the archive.
        ingest_checks: What `ingest` checks; a run of it for one stream names those of them that are the stream's, since
            Dagster would take all checks of that stream, those of `verify_archive` too.
    """

    ingest: UnresolvedAssetJobDefinition
    refresh: UnresolvedAssetJobDefinition
    rebuild: UnresolvedAssetJobDefinition
    verify_archive: UnresolvedAssetJobDefinition
    ingest_checks: frozenset[dg.AssetCheckKey]

    @property
    def all(self) -> list[UnresolvedAssetJobDefinition]:
        """The jobs as Dagster wants them."""
        return [self.ingest, self.refresh, self.rebuild, self.verify_archive]


def make_jobs(
    *,
    ingested: Sequence[dg.AssetsDefinition],
    warehouse: dg.AssetsDefinition,
    checks: Sequence[dg.AssetChecksDefinition],
) -> Jobs:
    """Make the jobs over these assets and checks."""
    streams = AssetSelection.assets(*ingested).without_checks()
    # The step runs and reports its checks, and those of the days beside it. Were they selected, Dagster would show all those as skipped that a
    # refresh had no reason to run again.
    tables = AssetSelection.assets(*warehouse.keys).without_checks()

    def named(*names: str) -> frozenset[dg.AssetCheckKey]:
        return frozenset(key for check in checks for key in check.check_keys if key.name in names)

    read = frozenset(dg.AssetCheckKey(asset.key, EVERYTHING_READ) for asset in ingested)
    ingest_checks = read | named(LOOKS_RIGHT, NO_GAPS, LAG_BELOW)

    return Jobs(
        ingest_checks=ingest_checks,
        ingest=dg.define_asset_job(
            "ingest",
            selection=streams | AssetSelection.checks(*ingest_checks),
            description="Archive what the sources of all streams have by now, and look at gaps, lag and the newest events.",
        ),
        refresh=dg.define_asset_job(
            "refresh",
            selection=tables,
            description="Add what is new in the archive to the tables, check them, and publish them.",
        ),
        rebuild=dg.define_asset_job(
            "rebuild",
            selection=tables,
            config={"ops": {WAREHOUSE_OP: {"config": {"rebuild": True}}}},
            description="Compute every table again from the archive alone, check them, and publish them.",
        ),
        verify_archive=dg.define_asset_job(
            "verify_archive",
            selection=AssetSelection.checks(*named(IS_WHOLE, MATCHES_BROKER)),
            description="Prove the archive whole, every byte against its log, and compare it with samples of its topics. Fails if "
            "anything is damaged or contradicts the brokers.",
        ),
    )
