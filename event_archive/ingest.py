"""Ingest: archive what the source of a stream has beyond the archive's positions, once or for as long as it's wanted.

What doesn't live here: how each kind of source is read (`sources`), and how batches are committed (`appending`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.appending import Appender, Follow, IngestResult, Problem, Progress
from event_archive.errors import CommitConflict, SourceUnavailable, StorageError
from event_archive.heads.recorded import HeadRecorder
from event_archive.source_config import FilesSource
from event_archive.sources.files.ingest import archive_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.config import Config

__all__ = ["Follow", "IngestResult", "Problem", "Progress", "ingest_stream"]

_RESCAN_SECONDS = 1.0


def ingest_stream(
    config: Config,
    stream: str,
    *,
    settled: bool = False,
    only: frozenset[str] | None = None,
    follow: Follow | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> IngestResult:
    """Archives everything that the source of `stream` has now, or with `follow` also what comes later.

    Args:
        config: the configuration.
        stream: name of a configured stream.
        settled: take last lines of files without a line end at once, whatever their age.
        only: paths, relative to the landing folder, to be read; None for all. For files only.
        follow: go on until told to stop.
        on_progress: called after each block that was read.
        on_warning: called with each warning of the result as it comes up.

    Raises:
        UsageError: there is no such stream.
        ArchiveDamaged: the archive must be repaired first.
        SourceProblem: nothing of the source can be read as it is.
        StorageError: the disk refused; what was committed until then stays, and running again goes on from there.
    """

    def show(progress: Progress) -> None:
        if follow is not None:
            recorder.note(progress.commits)
        if on_progress is not None:
            on_progress(progress)

    appender = Appender(
        stream, config.stream(stream), config.table(stream), on_progress=show, on_warning=on_warning
    )
    recorder = HeadRecorder(config, stream, appender.warn)
    try:
        _archive_all(appender, settled=settled, only=only, follow=follow)
    finally:
        recorder.record(appender.commits)
    return appender.result()


def _archive_all(
    appender: Appender, *, settled: bool, only: frozenset[str] | None, follow: Follow | None
) -> None:
    stream = appender.stream
    while True:
        try:
            _archive(appender, settled=settled, only=only, follow=follow)
        except CommitConflict:
            appender.warn(
                f"{stream}: another commit to this stream came first; what this one had read for that commit was "
                "dropped, and it went on from the new positions."
            )
            continue
        except (SourceUnavailable, StorageError) as error:
            if follow is None:
                raise
            appender.warn(f"{stream}: {error} Trying again until it works, or until this is stopped.")
        if follow is None or follow.stop.wait(_RESCAN_SECONDS):
            return


def _archive(
    appender: Appender, *, settled: bool, only: frozenset[str] | None, follow: Follow | None
) -> None:
    source = appender.settings.source
    if isinstance(source, FilesSource):
        archive_files(appender, source, settled=settled, only=only)
    else:
        from event_archive.sources.kafka.ingest import archive_topic

        archive_topic(appender, source, follow)
