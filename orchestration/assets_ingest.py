"""One asset per stream of the configuration: running it archives what the stream's source has by now.

What doesn't live here: how a source is read and a commit is made (`event_archive.ingest`), and proof that the archive is
whole (`archive_checks`).
"""

import dagster as dg

from event_archive.config import Config
from event_archive.envelope import DESCRIPTIONS
from event_archive.ingest import IngestResult, Progress, ingest_stream
from event_archive.sql.views import ENVELOPE_TYPES
from event_archive.status import StreamStatus, stream_status
from orchestration.failures import one_sentence
from orchestration.markdown import markdown_text

ARCHIVE_GROUP = "archive"
EVERYTHING_READ = "everything_was_read"
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
        metadata={
            "dagster/column_schema": _envelope(),
            "landing folder": dg.MetadataValue.path(settings.source.path),
            "archive table": dg.MetadataValue.path(config.table(stream)),
        },
        check_specs=[
            dg.AssetCheckSpec(
                EVERYTHING_READ,
                asset=stream_key(stream),
                description="Every file of the landing folder could be read, and none was changed after it had been archived.",
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
            result = ingest_stream(config, stream, on_progress=log_commit)
            status = stream_status(config, stream)
        for warning in result.warnings:
            context.log.warning(warning)
        return dg.MaterializeResult(
            metadata=_metadata(config, result, status),
            data_version=dg.DataVersion(status.chain_hash) if status.chain_hash else None,
            check_results=[_everything_read(result)],
        )

    return archived_stream


def _envelope() -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=kind, description=markdown_text(DESCRIPTIONS[name]))
            for name, kind in ENVELOPE_TYPES.items()
        ]
    )


def _metadata(config: Config, result: IngestResult, status: StreamStatus) -> dict[str, dg.MetadataValue]:
    newest = dict(list(status.positions.items())[-_SHOWN:])
    return {
        "events": dg.MetadataValue.int(result.events),
        "bytes": dg.MetadataValue.int(result.bytes),
        "commits": dg.MetadataValue.int(result.commits),
        "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        "dagster/row_count": dg.MetadataValue.int(status.events),
        "bytes in all": dg.MetadataValue.int(status.bytes),
        "sources": dg.MetadataValue.int(len(status.positions)),
        f"position (next offset; newest {_SHOWN} sources)": dg.MetadataValue.json(newest),
        "lag (files)": dg.MetadataValue.int(status.lag.files),
        "lag (bytes)": dg.MetadataValue.int(status.lag.bytes),
        "archive version": dg.MetadataValue.int(result.version),
        "read from": dg.MetadataValue.path(config.stream(result.stream).source.path),
        "written to": dg.MetadataValue.path(config.table(result.stream)),
    }


def _everything_read(result: IngestResult) -> dg.AssetCheckResult:
    problems = [str(problem) for problem in result.problems]
    return dg.AssetCheckResult(
        check_name=EVERYTHING_READ,
        passed=not problems,
        description=problems[0] if problems else None,
        metadata={"problems": len(problems), "the first of them": dg.MetadataValue.json(problems[:_SHOWN])},
    )
