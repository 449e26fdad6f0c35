"""Stretches of landing files read a second time, as rows of the envelope.

What doesn't live here: whether they are still what was archived, which row digests and hashes of whole files tell
(`event_archive.repair.source`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from event_archive.archive.columns import column, string_column
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.errors import SourceProblem
from event_archive.sources.files.landing import scan
from event_archive.sources.files.lines import split
from event_archive.sources.files.positions import UNREAD, decode_source_id
from event_archive.sources.files.reading import ReadSettings, read_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from event_archive.source_config import FilesSource
    from event_archive.sources.claims import Span
    from event_archive.sources.files.landing import LandingFile

_SETTINGS = ReadSettings(settle_seconds=float("-inf"), max_record_bytes=2**30, block_bytes=2**23)


def reread_files(source: FilesSource, spans: Sequence[Span]) -> Iterator[pa.Table]:
    """Reads the files of `spans` again.

    Args:
        source: the landing folder.
        spans: stretches of files, in the order of the rows.

    Yields:
        Rows with `SOURCE_SCHEMA`.

    Raises:
        SourceProblem: a file is gone, or has fewer records; the text names it.
    """
    found, _ = scan(source.path)
    files = {file.path: file for file in found}
    for span in spans:
        path, generation = decode_source_id(span.source_id)
        name = source.path / path
        if path not in files:
            raise SourceProblem(f"{name} is not in the landing folder any more")
        try:
            yield from _rows(files[path], span)
        except SourceProblem as problem:
            older = f" (what was archived is its generation {generation})" if generation > 1 else ""
            raise SourceProblem(f"{name} {problem}{older}") from problem


def _rows(file: LandingFile, span: Span) -> Iterator[pa.Table]:
    record = 0  # number of the next one
    for piece in read_file(file, replace(UNREAD, source_id=span.source_id), _SETTINGS):
        values = split(piece.data, np.array([len(piece.data)])).values
        first, after = max(span.first_offset - record, 0), min(span.next_offset - record, len(values))
        if first < after:
            yield _table(span.source_id, record + first, values[first:after])
        record += len(values)
        if record >= span.next_offset:
            return
    raise SourceProblem(
        f"has {record} records now, and {span.next_offset} of it were archived: it was cut off or replaced"
    )


def _table(source_id: str, first_offset: int, values: pa.BinaryArray) -> pa.Table:
    rows = len(values)
    given = {
        "source_id": pa.DictionaryArray.from_arrays(
            column(pa.int32(), np.zeros(rows, np.int32)), string_column([source_id])
        ),
        "source_partition": column(pa.int32(), np.zeros(rows, np.int32)),
        "source_offset": column(pa.int64(), np.arange(first_offset, first_offset + rows)),
        "value": values,
    }
    columns = [given.get(field.name, pa.nulls(rows, field.type)) for field in SOURCE_SCHEMA]
    return pa.table(columns, schema=SOURCE_SCHEMA)
