"""A file of sample events as a Parquet file in the columns of the archive, so that it is looked at like archived events.

What doesn't live here: looking at it (`event_archive.schema`), and archiving (`event_archive.sources.files`).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from event_archive.envelope import EVENT_SCHEMA
from event_archive.errors import UsageError
from event_archive.sources.files.decompression import Damaged, decompressed
from event_archive.sources.files.lines import split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK_BYTES = 16 * 2**20
_LONGEST_LINE = 256 * 2**20


def write_sample(sample: Path, target: Path) -> int:
    """Writes the lines of a sample file as events of one commit.

    Args:
        sample: JSON lines, also `.gz` and `.zst`; what is no JSON is taken too.
        target: The Parquet file to be made.

    Returns:
        How many events it holds.

    Raises:
        UsageError: The file can't be read, or holds no event.
    """
    events = 0
    try:
        with pq.ParquetWriter(target, EVENT_SCHEMA, compression="zstd") as writer:
            for values in _lines(sample):
                writer.write_table(_as_events(values, events))
                events += len(values)
    except OSError as error:
        raise UsageError(f"{sample}: can't be read ({error.strerror or error}).") from error
    except Damaged as error:
        raise UsageError(f"{sample}: {error}.") from error
    if not events:
        raise UsageError(f"{sample}: holds no event; give a file with an event a line.")
    return events


def _lines(sample: Path) -> Iterator[pa.BinaryArray]:
    """The lines that aren't blank, a block of them at a time."""
    rest = b""
    with sample.open("rb") as file:
        for data in decompressed(file, sample.name, _BLOCK_BYTES):
            rest += data
            if len(rest) < _BLOCK_BYTES:
                continue
            whole = rest.rfind(b"\n") + 1
            if whole:
                yield split(rest[:whole], np.array([whole])).values
                rest = rest[whole:]
            elif len(rest) > _LONGEST_LINE:
                raise UsageError(
                    f"{sample}: has a line of more than 256 MB; is it a file with an event a line?"
                )
    if rest.strip():
        block = rest if rest.endswith(b"\n") else rest + b"\n"
        yield split(block, np.array([len(block)])).values


def _as_events(values: pa.BinaryArray, first: int) -> pa.Table:
    now = dt.datetime.now(dt.UTC)
    count = len(values)
    known = {
        "source_id": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32)), pa.array(["file:sample"])
        ),
        "source_partition": pa.array(np.zeros(count, np.int32)),
        "source_offset": pa.array(np.arange(first, first + count)),
        "value": values,
        "ingested_at": pa.repeat(pa.scalar(now, EVENT_SCHEMA.field("ingested_at").type), count),
        "ingest_date": pa.repeat(pa.scalar(now.date()), count),
        "commit_version": pa.array(np.zeros(count, np.int64)),
    }
    return pa.table(
        [known.get(field.name, pa.nulls(count, field.type)) for field in EVENT_SCHEMA], schema=EVENT_SCHEMA
    )
