"""One asset per stream of the configuration: running it archives what the stream's source has by now.

What doesn't live here: how a source is read and a commit is made (`event_archive.ingest`), what a run leaves on the
asset's page (`ingest_metadata`), and checks that run apart from it (`archive_checks`, `topic_checks`).
"""

import dagster as dg

from event_archive.config import Config
from event_archive.ingest import IngestResult, Progress, ingest_stream
from event_archive.source_config import KafkaSource
from event_archive.status import StreamStatus, stream_status
from orchestration.failures import one_sentence
from orchestration.ingest_metadata import definition_metadata, run_metadata

ARCHIVE_GROUP = "archive"
EVERYTHING_READ = "everything_was_read"
_EVERYTHING_READ = {
    "files": "Every file of the landing folder could be read, and none was changed after it had been archived.",
    "kafka": "Every partition of the topic could be read, and its brokers still have what is archived of it, or what comes "
    "after that.",
}
_SHOWN = 20


def stream_key(stream: str) -> dg.AssetKey:
    """Key of a stream's asset; the dbt source of the same name has the same key, and so lineage joins up."""
    return dg.AssetKey(["event_archive", stream])


def ingest_asset(config: Config, stream: str) -> dg.AssetsDefinition:
    """Make the asset of one configured stream.

    Args:
        config: The configuration.
        stream: Name of a stream in it.
    """
    settings = config.stream(stream)

    @dg.asset(
        key=stream_key(stream),
        description=settings.description or None,
        group_name=ARCHIVE_GROUP,
        kinds={settings.source.type, "parquet", "deltalake"},
        metadata=definition_metadata(config, stream),
        check_specs=[
            dg.AssetCheckSpec(
                EVERYTHING_READ,
                asset=stream_key(stream),
                description=_EVERYTHING_READ[settings.source.type],
            )
        ],
        pool=f"archive_{stream}",
    )
    def archived_stream(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
        commits = 0

        def log_commit(progress: Progress) -> None:
            nonlocal commits
            if progress.commits > commits:
                commits = progress.commits
                context.log.info("%s: %d events read, %d commits made", stream, progress.events, commits)

        with one_sentence():
            # What waited before a run can't be told after it; of files, what was read tells.
            before = stream_status(config, stream) if isinstance(settings.source, KafkaSource) else None
            result = ingest_stream(config, stream, on_progress=log_commit)
            status = stream_status(config, stream)
        for warning in result.warnings:
            context.log.warning(warning)
        for gap in _new_gaps(before, status):
            context.log.error("%s: %s", stream, gap)
        return dg.MaterializeResult(
            metadata=run_metadata(config, result, before=before, after=status),
            data_version=dg.DataVersion(status.chain_hash) if status.chain_hash else None,
            check_results=[_everything_read(result)],
        )

    return archived_stream


def _new_gaps(before: StreamStatus | None, after: StreamStatus) -> list[str]:
    known = set(before.gaps) if before else set()
    return [str(gap) for gap in after.gaps if gap not in known]


def _everything_read(result: IngestResult) -> dg.AssetCheckResult:
    problems = [str(problem) for problem in result.problems]
    return dg.AssetCheckResult(
        check_name=EVERYTHING_READ,
        passed=not problems,
        description=problems[0] if problems else None,
        metadata={"problems": len(problems), "the first of them": dg.MetadataValue.json(problems[:_SHOWN])},
    )
