"""The operator's decision about a source that is not any more what was archived of it.

What doesn't live here: what is decided about each kind of source (`sources`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from event_archive.errors import UsageError
from event_archive.ingest import IngestResult, ingest_stream
from event_archive.source_config import FilesSource, KafkaSource
from event_archive.sources.files.accept import accept_file, path_in_landing

if TYPE_CHECKING:
    from event_archive.config import Config


def accept_source(config: Config, name: str, *, partition: int | None = None) -> IngestResult:
    """Accepts a file, or a stream's topic, as it is now, and archives it.

    A changed file, a topic that was made anew and a partition that has lost events are archived as a new generation,
    beside what the archive has of the old one. A damaged file is no problem any more.

    Args:
        config: the configuration.
        name: a file in a stream's landing folder, or the name of a stream whose source is a topic.
        partition: of the topic; None for all of a topic that was made anew.

    Raises:
        UsageError: no stream reads this, or there is nothing to accept about it.
    """
    if name in config.streams:
        source = config.stream(name).source
        if isinstance(source, KafkaSource):
            from event_archive.sources.kafka.accept import accept_topic

            accept_topic(name, source, config.table(name), partition)
            return ingest_stream(config, name)
    if partition is not None:
        raise UsageError(f"{name}: --partition is for streams whose source is a topic.")
    for stream, settings in config.streams.items():
        source = settings.source
        if isinstance(source, FilesSource) and (path := path_in_landing(source, Path(name))) is not None:
            accept_file(stream, settings, source, config.table(stream), path)
            return ingest_stream(config, stream, only=frozenset([path]))
    raise UsageError(
        f"{name}: is no stream whose source is a topic, and lies in the landing folder of no configured stream."
    )
