"""The job that publishes a build that waits, as `event-archive publish` does.

What doesn't live here: when a build waits (`event_archive.warehouse.policy`).
"""

from typing import Any

import dagster as dg

from event_archive.config import Config
from event_archive.warehouse import BuildRecord, layout, publish_waiting
from orchestration.assets_warehouse import WAREHOUSE_POOL
from orchestration.days import MARKED_DAYS, all_days
from orchestration.dbt_results import Models
from orchestration.failures import RETRIES, one_sentence
from orchestration.reporting import day_materializations, published_metadata

PUBLISH_JOB = "publish_build"
_PATIENCE_SECONDS = 900


class WhichBuild(dg.Config):
    """What the launchpad asks for.

    Attributes:
        build_id: The build; the run that computed it names it, and so does `event-archive builds`.
    """

    build_id: str


def publish_job(config: Config, models: Models) -> dg.JobDefinition:
    """Make the job.

    Args:
        config: The configuration; says where the warehouse is.
        models: The models, of which the marts are materialised by it.
    """
    warehouse = config.warehouse

    @dg.op(name="publish", pool=WAREHOUSE_POOL, retry_policy=RETRIES)
    def publish(context: dg.OpExecutionContext, config: WhichBuild) -> None:
        with one_sentence():
            switched = publish_waiting(warehouse, config.build_id, wait_seconds=_PATIENCE_SECONDS)
        context.log.info("Build %s is published.", switched.now.build_id)
        if switched.before is not None and switched.before.build_id == switched.now.build_id:
            return
        for stream, events in switched.events_behind.items():
            context.log.warning(
                "It holds %d events of %s less than the build before; a refresh adds them.", events, stream
            )
        _report(context, switched.now)

    def _report(context: dg.OpExecutionContext, record: BuildRecord) -> None:
        file = layout.build_file(warehouse, record.build_id)
        for mart in record.marts:
            key = models.marts.get(mart.mart)
            if key is None:  # of a model that the project hasn't any more
                continue
            metadata: dict[str, Any] = {**published_metadata(archive, record), "digest": mart.digest}
            if mart.mart in models.days:
                days = all_days(file, models.days[mart.mart])
                at_most = MARKED_DAYS // len(models.days)
                for marked in day_materializations(context, key, days, metadata, at_most=at_most):
                    context.log_event(marked)
            else:
                metadata["dagster/row_count"] = mart.rows
                tags = {"dagster/data_version": mart.digest}
                context.log_event(dg.AssetMaterialization(key, metadata=metadata, tags=tags))

    archive = config

    @dg.job(name=PUBLISH_JOB, description="Publish a build that waits: give its name as `build_id`.")
    def job() -> None:
        publish()

    return job
