"""The composition root: everything that Dagster sees is put together here and nowhere else.

What doesn't live here: any of the parts. Importing this module reads nothing and connects to nothing; Dagster calls `defs`.
"""

import dagster as dg

from event_archive.config import Config, load_config
from orchestration.archive_checks import archive_checks
from orchestration.assets_ingest import ingest_asset
from orchestration.assets_warehouse import Translator, warehouse_assets
from orchestration.dbt_manifest import load_manifest
from orchestration.dbt_results import Models
from orchestration.jobs import make_jobs
from orchestration.publishing import publish_job
from orchestration.schedules import make_schedules
from orchestration.sensors import make_sensors
from orchestration.topic_checks import topic_checks


def build_definitions(*, config: Config | None = None) -> dg.Definitions:
    """Put all definitions together.

    Args:
        config: The configuration; by default the one that `event-archive` would read here.

    Raises:
        ConfigurationError: The configuration is missing or wrong; the text says where.
    """
    config = config or load_config()
    ingested = [ingest_asset(config, stream) for stream in config.streams]
    models = Models(load_manifest(config.models), Translator())
    warehouse, *days = warehouse_assets(config, models)
    checks = [
        check
        for stream in config.streams
        for check in (*archive_checks(config, stream), *topic_checks(config, stream))
    ]
    jobs = make_jobs(ingested=ingested, warehouse=warehouse, checks=checks)
    publish = publish_job(config, models)
    return dg.Definitions(
        assets=[*ingested, warehouse, *days],
        asset_checks=checks,
        jobs=[*jobs.all, publish],
        schedules=make_schedules(jobs),
        sensors=make_sensors(config, jobs),
        # Each run is small next to the seconds that a process per step would cost, and DuckDB and Arrow use all cores anyway.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `workspace.yaml` and `dg` load."""
    return build_definitions()
