"""Data files made again from the source: the same offsets are read once more, and written as they were then.

Only bytes with the hash that the commit recorded count. What was read may still be proved event by event: the commit has a
digest of the rows of each stretch, which tells a changed source from another version of the library that writes Parquet.

What doesn't live here: reading stretches of files and topics again (`sources.files.reread`, `sources.kafka.reread`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from event_archive import layout
from event_archive.archive.contents import held_spans
from event_archive.archive.data_file import DataFileWriter, with_commit
from event_archive.archive.history import iter_entries
from event_archive.archive.log import parse_entry
from event_archive.errors import ArchiveDamaged, SourceProblem
from event_archive.source_config import FilesSource
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.archive.contents import HeldSpan
    from event_archive.archive.data_file import WrittenFile
    from event_archive.archive.log import Commit, DataFile
    from event_archive.config import Config
    from event_archive.storage.store import Store

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class SourceFiles:
    """Makes data files of one stream again."""

    def __init__(self, config: Config, stream: str) -> None:
        """Takes where the events came from, and reads nothing yet."""
        self._source = config.stream(stream).source
        self._stream = stream
        self._table: Store = config.table(stream)
        self._scratch = config.cache.path

    @contextlib.contextmanager
    def rebuilt(self, file: DataFile) -> Iterator[Iterator[bytes]]:
        """The bytes of a data file, made again and proved.

        Args:
            file: as its commit describes it.

        Raises:
            SourceProblem: the source hasn't these events any more, or they can't be written as they were; the text says which.
            ArchiveDamaged: the commit can't be read.
        """
        commit = self._commit_of(file)
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="repair-", dir=self._scratch) as folder:
            scratch = FolderStore(Path(folder))
            self._compare(commit, file, self._write(scratch, commit, file))
            yield scratch.chunks(file.path)

    def _commit_of(self, file: DataFile) -> Commit:
        _, entry = next(iter_entries(self._table, first=file.commit_version))
        commit, _ = parse_entry(file.commit_version, entry)
        if commit.compacted is not None:
            raise SourceProblem(
                "it was made by compaction, out of files of many commits, and can't be made from the source; only a copy "
                "of the archive has it (--from OTHER_ARCHIVE)"
            )
        if not commit.row_groups or sum(commit.row_groups) != file.num_records:
            raise SourceProblem(
                "its commit is of an older format and doesn't say how the file was divided; only a copy of the archive has it "
                "(--from OTHER_ARCHIVE)"
            )
        return commit

    def _write(self, scratch: FolderStore, commit: Commit, file: DataFile) -> WrittenFile:
        ingested_at = _EPOCH + dt.timedelta(microseconds=commit.ingested_at_us)
        writer = DataFileWriter(scratch, layout.checked_data_file(file.path, self._table.url))
        try:
            for rows in _regrouped(self._read(held_spans(commit)), commit.row_groups):
                writer.write_row_group(with_commit(rows, commit.version, ingested_at))
            return writer.finish()
        except BaseException:
            writer.abandon()
            raise

    def _read(self, held: tuple[HeldSpan, ...]) -> Iterator[pa.Table]:
        spans = [item.span for item in held]
        if isinstance(self._source, FilesSource):
            from event_archive.sources.files.reread import reread_files

            return reread_files(self._source, spans)
        from event_archive.sources.kafka.reread import reread_topic

        return reread_topic(self._stream, self._source, spans)

    def _compare(self, commit: Commit, file: DataFile, made: WrittenFile) -> None:
        if made.sha256 == file.sha256:
            return
        held = held_spans(commit)
        for item, digest in zip(held, made.digests, strict=False):
            if item.digest != digest.sha256:
                raise SourceProblem(
                    f"{item.span.name} has other events now at offsets {item.span.first_offset} to {item.span.next_offset - 1} than "
                    "those that were archived"
                )
        raise SourceProblem(
            "the source still has all of its events, as their row digests prove, but this version of pyarrow "
            f"({pa.__version__}) writes them as other bytes than the one that wrote the file; repair with that version, or from "
            "a copy of the archive (--from OTHER_ARCHIVE)"
        )


def _regrouped(tables: Iterator[pa.Table], sizes: tuple[int, ...]) -> Iterator[pa.Table]:
    """The same rows in tables of these sizes."""
    held: list[pa.Table] = []
    rows = 0
    for size in sizes:
        while rows < size:
            table = next(tables, None)
            if table is None:
                raise ArchiveDamaged("the source gave fewer events than the commit has.")
            held.append(table)
            rows += table.num_rows
        together = pa.concat_tables(held)
        yield together.slice(0, size)
        held, rows = [together.slice(size)], rows - size
