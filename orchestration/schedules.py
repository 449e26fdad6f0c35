"""When the jobs run by themselves: all switched off until someone switches them on in the UI.

What doesn't live here: what they do (`jobs`).
"""

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.jobs import Jobs

UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
"""States of a run that has not ended."""


def make_schedules(jobs: Jobs) -> list[dg.ScheduleDefinition]:
    """Make the schedules: ingest every five minutes, refresh every hour, verify every night (UTC)."""
    return [
        _schedule(jobs.ingest, "*/5 * * * *"),
        _schedule(jobs.refresh, "10 * * * *"),
        _schedule(jobs.verify_archive, "30 3 * * *"),
    ]


def _schedule(job: UnresolvedAssetJobDefinition, cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        job=job,
        name=f"{job.name}_schedule",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=job.description,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        # After a long outage one run catches up with everything; a queue of them would do nothing but wait for it.
        if context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=UNDER_WAY)):
            return dg.SkipReason(f"The run of {job.name} before this one has not ended yet.")
        return dg.RunRequest()

    return schedule
