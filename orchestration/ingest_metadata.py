"""What the page of a stream's asset says: where the events come from, and what each run read, of files or of a topic.

Never a property of a Kafka client, since that may be a secret. What doesn't live here: the run itself (`assets_ingest`).
"""

from collections.abc import Mapping

import dagster as dg

from event_archive.config import Config
from event_archive.envelope import DESCRIPTIONS
from event_archive.ingest import IngestResult
from event_archive.source_config import FilesSource
from event_archive.sql.views import ENVELOPE_TYPES
from event_archive.status import StreamStatus
from orchestration.markdown import markdown_table, markdown_text
from orchestration.run_heads import head_metadata

_SHOWN_FILES = 20
_SHOWN_PARTITIONS = 50

_Metadata = dict[str, dg.MetadataValue]


def definition_metadata(config: Config, stream: str) -> Mapping[str, dg.TableSchema | dg.MetadataValue]:
    """What is known of a stream before any run."""
    source = config.stream(stream).source
    where: _Metadata
    if isinstance(source, FilesSource):
        where = {"landing folder": dg.MetadataValue.path(source.path)}
    else:
        where = {
            "topic": dg.MetadataValue.text(source.topic),
            "brokers": dg.MetadataValue.text(source.brokers),
            "isolation": dg.MetadataValue.text(source.isolation),
        }
    return {
        "dagster/column_schema": _envelope(),
        **where,
        "archive table": dg.MetadataValue.path(config.table(stream).url),
    }


def run_metadata(
    config: Config, result: IngestResult, *, before: StreamStatus | None, after: StreamStatus
) -> _Metadata:
    """What a run did.

    Args:
        config: The configuration.
        result: What the ingest says.
        before: The stream before it; needed for a topic.
        after: The stream after it.
    """
    return {
        "events": dg.MetadataValue.int(result.events),
        "bytes": dg.MetadataValue.int(result.bytes),
        "commits": dg.MetadataValue.int(result.commits),
        "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        "dagster/row_count": dg.MetadataValue.int(after.events),
        "bytes in all": dg.MetadataValue.int(after.bytes),
        **(_of_files(after) if before is None else _of_topic(before, after)),
        "archive version": dg.MetadataValue.int(result.version),
        **head_metadata(config, result.stream),
        "read from": _read_from(config, result.stream),
        "written to": dg.MetadataValue.path(config.table(result.stream).url),
    }


def _of_files(after: StreamStatus) -> _Metadata:
    newest = dict(list(after.positions.items())[-_SHOWN_FILES:])
    return {
        "sources": dg.MetadataValue.int(len(after.positions)),
        f"position (next offset; newest {_SHOWN_FILES} sources)": dg.MetadataValue.json(newest),
        "lag (files)": dg.MetadataValue.int(after.lag.files),
        "lag (bytes)": dg.MetadataValue.int(after.lag.bytes),
    }


def _of_topic(before: StreamStatus, after: StreamStatus) -> _Metadata:
    metadata: _Metadata = {
        "lag before (events)": _number(before.lag.events),
        "lag after (events)": _number(after.lag.events),
        "lag that waits for open transactions": dg.MetadataValue.int(after.lag.held_back),
        "gaps": dg.MetadataValue.int(len(after.gaps)),
        "partitions": dg.MetadataValue.int(len(after.positions)),
        "position (next offset per partition)": dg.MetadataValue.json(_shortened(after.positions)),
        "what this run read": dg.MetadataValue.md(_advances(before.positions, after.positions)),
    }
    if after.notes:
        metadata["worth knowing"] = dg.MetadataValue.md(
            "\n".join(f"- {markdown_text(n)}" for n in after.notes)
        )
    return metadata


def _shortened(positions: dict[str, int]) -> dict[str, int]:
    """Positions as far as a page can show them; `event-archive status --json` has all."""
    more = len(positions) - _SHOWN_PARTITIONS
    return positions if more <= 0 else dict(list(positions.items())[:_SHOWN_PARTITIONS]) | {"and more": more}


def _advances(before: dict[str, int], after: dict[str, int]) -> str:
    """The partitions that have moved, those that have moved furthest first."""
    moved = [
        (name.rpartition("/")[2], _generation(name), before.get(name), position)
        for name, position in after.items()
        if position != before.get(name)
    ]
    if not moved:
        return "nothing: no partition had anything new"
    moved.sort(key=lambda row: (row[2] or 0) - row[3])
    table = markdown_table(
        ["partition", "generation", "next offset before", "next offset now"], moved[:_SHOWN_PARTITIONS]
    )
    more = len(moved) - _SHOWN_PARTITIONS
    return f"{table}\n\nand {more} more partitions" if more > 0 else table


def _generation(name: str) -> str:
    return name.rpartition("/")[0].partition("#")[2] or "1"


def _number(value: int | None) -> dg.MetadataValue:
    return dg.MetadataValue.null() if value is None else dg.MetadataValue.int(value)


def _read_from(config: Config, stream: str) -> dg.MetadataValue:
    source = config.stream(stream).source
    if isinstance(source, FilesSource):
        return dg.MetadataValue.path(source.path)
    return dg.MetadataValue.text(f"topic {source.topic} at {source.brokers}")


def _envelope() -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=kind, description=markdown_text(DESCRIPTIONS[name]))
            for name, kind in ENVELOPE_TYPES.items()
        ]
    )
