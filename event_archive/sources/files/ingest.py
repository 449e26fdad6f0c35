"""Ingest of a landing folder: what its files hold beyond the archive's positions, committed in batches.

What doesn't live here: how a file is read (`reading`), and what a commit is (`event_archive.appending`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.appending import ROW_GROUP_BYTES, ROW_GROUP_ROWS, Appender, Progress
from event_archive.read_ahead import read_ahead
from event_archive.sources.files.batches import BatchBuilder, Block, damage_reason, plan, read_blocks
from event_archive.sources.files.landing import scan
from event_archive.sources.files.positions import FileState, Positions, encode_claims
from event_archive.sources.files.reading import ReadSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.source_config import FilesSource

APPLICATION = "event-archive:file:0"
_BLOCK_BYTES = 2**23
_FILES_A_COMMIT = 20_000
_BLANK_LINES_A_COMMIT = 2**22


def read_settings(source: FilesSource, *, commit_bytes: int, settled: bool) -> ReadSettings:
    """How the files of a stream are read; `settled` takes last lines without a line end at once."""
    return ReadSettings(
        settle_seconds=float("-inf") if settled else source.settle_seconds,
        max_record_bytes=source.max_record_bytes,
        block_bytes=max(4096, min(_BLOCK_BYTES, commit_bytes)),
    )


def archive_files(
    appender: Appender, source: FilesSource, *, settled: bool = False, only: frozenset[str] | None = None
) -> None:
    """Reads and commits until nothing is left.

    Args:
        appender: of the stream's table.
        source: the landing folder.
        settled: take last lines without a line end at once, whatever their age.
        only: paths, relative to the landing folder, to be read; None for all.

    Raises:
        CommitConflict: another writer was faster; call again.
    """
    positions = Positions()
    appender.open(positions.note)
    settings = read_settings(source, commit_bytes=appender.settings.commit_bytes, settled=settled)
    files, unreadable = scan(source.path)
    if only is not None:
        files = [file for file in files if file.path in only]
        unreadable = [file for file in unreadable if file.path in only]
    work, known = plan(files, positions, settings)
    for path, reason in [(u.path, u.reason) for u in unreadable] + [(k.path, k.reason) for k in known]:
        appender.note_problem(str(source.path / path), reason)
    if work:
        progress = Progress(appender.stream, total_bytes=sum(item.file.size_bytes for item in work))
        with read_ahead(read_blocks(work, settings)) as blocks:
            _Batches(appender, source, positions).commit_all(blocks, progress)


class _Batches:
    def __init__(self, appender: Appender, source: FilesSource, positions: Positions) -> None:
        self._appender = appender
        self._source = source
        self._builder = BatchBuilder(positions)
        self._twins = _Twins(positions)

    def commit_all(self, blocks: Iterator[Block], progress: Progress) -> None:
        appender, builder = self._appender, self._builder
        try:
            for block in blocks:
                self._take(block)
                if builder.pending_rows >= ROW_GROUP_ROWS or builder.pending_bytes >= ROW_GROUP_BYTES:
                    self._write_rows()
                progress.events = appender.events + appender.pending_events + builder.pending_rows
                progress.bytes += block.size_bytes
                if (
                    appender.pending_bytes + builder.pending_bytes >= appender.settings.commit_bytes
                    or builder.claimed_files >= _FILES_A_COMMIT
                    or builder.pending_blank_lines >= _BLANK_LINES_A_COMMIT
                ):
                    self._commit()
                progress.commits = appender.commits
                appender.show(progress)
            if builder.claimed_files:
                self._commit()
        except BaseException:
            appender.abandon()
            raise

    def _take(self, block: Block) -> None:
        for problem in block.problems:
            self._note_problem(problem.path, problem.reason)
        for finished in self._builder.add(block):
            if finished.state.is_damaged:
                self._note_problem(finished.path, damage_reason(finished.state))
            is_new = finished.is_new and finished.state.records > 0
            if is_new and (twin := self._twins.of(finished.state)):
                self._appender.warn(
                    f"{self._appender.stream}: {finished.state.source_id} has the same bytes as {twin}; both are archived."
                )

    def _write_rows(self) -> None:
        if self._builder.pending_rows:
            value_bytes = self._builder.pending_bytes
            self._appender.write_rows(self._builder.take_rows(), value_bytes)

    def _commit(self) -> None:
        self._write_rows()
        self._appender.commit(encode_claims(self._builder.take_claims()), application=APPLICATION)

    def _note_problem(self, path: str, reason: str) -> None:
        self._appender.note_problem(str(self._source.path / path), reason)


class _Twins:
    """Files with the same bytes: archived, since an archive never drops, but worth a word."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._by_digest: dict[str, str] | None = None

    def of(self, state: FileState) -> str | None:
        """Source id of a file with the same bytes as this new one."""
        if self._by_digest is None:
            known = self._positions.by_path.values()
            self._by_digest = {other.sha256: other.source_id for other in known if other.records}
        twin = self._by_digest.setdefault(state.sha256, state.source_id)
        return None if twin == state.source_id else twin
