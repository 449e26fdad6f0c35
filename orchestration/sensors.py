"""When a topic's lag starts an ingest by itself: one sensor per stream that asks for it, all switched off at first.

What doesn't live here: what an ingest does (`assets_ingest`), and when it runs by the clock (`schedules`).
"""

import json
import time

import dagster as dg

from event_archive.config import Config
from event_archive.source_config import KafkaSource
from event_archive.status import StreamStatus, stream_status
from orchestration.assets_ingest import stream_key
from orchestration.jobs import Jobs
from orchestration.schedules import UNDER_WAY

_LOOK_SECONDS = 60
_RETRY_SECONDS = 300
"""After an ingest that brought nothing, the next one is started no sooner than that."""


def make_sensors(config: Config, jobs: Jobs) -> list[dg.SensorDefinition]:
    """Make the sensors of all streams that have `ingest_when_lag_above`."""
    return [
        _lag_sensor(config, stream, settings.ingest_when_lag_above, jobs)
        for stream, settings in config.streams.items()
        if isinstance(settings.source, KafkaSource) and settings.ingest_when_lag_above is not None
    ]


def _lag_sensor(config: Config, stream: str, threshold: int, jobs: Jobs) -> dg.SensorDefinition:
    key = stream_key(stream)
    checks = sorted(check for check in jobs.ingest_checks if check.asset_key == key)

    @dg.sensor(
        job=jobs.ingest,
        name=f"ingest_{stream}_when_lag_is_high",
        minimum_interval_seconds=_LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Starts an ingest of {stream} when more than {threshold:,} events wait.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if _is_under_way(context.instance, jobs.ingest.name, key):
            return dg.SkipReason(f"An ingest of {stream} is under way.")
        status = stream_status(config, stream)
        if reason := _nothing_to_do(status, threshold):
            return dg.SkipReason(reason)
        now = time.time()
        started = json.loads(context.cursor) if context.cursor else None
        if started and started["version"] == status.version and 0 <= now - started["at"] < _RETRY_SECONDS:
            return dg.SkipReason(
                f"The ingest that was started {now - started['at']:.0f} s ago has committed nothing; its run says why. Another "
                f"one is started {_RETRY_SECONDS} s after it."
            )
        context.update_cursor(json.dumps({"version": status.version, "at": now}))
        return dg.RunRequest(asset_selection=[key], asset_check_keys=checks)

    return sensor


def _is_under_way(instance: dg.DagsterInstance, job: str, key: dg.AssetKey) -> bool:
    """Whether any run, whoever started it, archives the stream."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))
    return any(
        run.job_name == job if run.asset_selection is None else key in run.asset_selection for run in runs
    )


def _nothing_to_do(status: StreamStatus, threshold: int) -> str | None:
    """Why no ingest is needed, or could do anything; None if one should run."""
    lag, held_back = status.lag.events, status.lag.held_back
    if lag is None:
        # That brokers don't answer passes by itself. That the topic is another one doesn't: let the ingest say so, in red.
        return None if status.unreadable else " ".join(status.notes)
    if lag - held_back > threshold:
        return None
    said = f"{lag:,} events wait, and an ingest is started above {threshold:,}."
    return f"{said} {held_back:,} of them wait for a transaction that is open." if held_back else said
