"""The four jobs: `ingest`, `refresh`, `rebuild`, `verify_archive`.

What doesn't live here: when they run (`schedules`), and what a step does (the assets and checks).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import AssetSelection
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.archive_checks import IS_WHOLE, LOOKS_RIGHT
from orchestration.assets_ingest import EVERYTHING_READ
from orchestration.assets_warehouse import WAREHOUSE_OP


@dataclass(frozen=True)
class Jobs:
    """All jobs, by what they are for."""

    ingest: UnresolvedAssetJobDefinition
    refresh: UnresolvedAssetJobDefinition
    rebuild: UnresolvedAssetJobDefinition
    verify_archive: UnresolvedAssetJobDefinition

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
    tables = AssetSelection.assets(*warehouse.keys)

    read = AssetSelection.checks(*(dg.AssetCheckKey(asset.key, EVERYTHING_READ) for asset in ingested))

    def named(name: str) -> AssetSelection:
        return AssetSelection.checks(
            *(key for check in checks for key in check.check_keys if key.name == name)
        )

    return Jobs(
        ingest=dg.define_asset_job(
            "ingest",
            selection=streams | read | named(LOOKS_RIGHT),
            description="Archive what the sources of all streams have by now, and look at the newest events.",
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
            selection=named(IS_WHOLE),
            description="Prove the archive whole: every byte against its log. Fails if anything is damaged.",
        ),
    )
