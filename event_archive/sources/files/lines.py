"""Lines as columns: splitting a block of many lines without a Python object per line.

What doesn't live here: reading files (`reading`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

_LINE_END = 10


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a block that is put together from parts, which may come from different files."""

    values: pa.BinaryArray
    """The lines that aren't blank, without their line ends."""
    counts: npt.NDArray[np.int64]
    """Shape (parts,): how many of `values` each part has."""
    blank_before: npt.NDArray[np.int64]
    """Shape (blank lines,), ascending: index in `values` of the line that follows each blank line."""
    blank_part: npt.NDArray[np.int64]
    """Shape (blank lines,): the part in which each blank line lies."""


def split(block: bytes, part_ends: npt.NDArray[np.int64]) -> Lines:
    """Splits `block`, each of whose parts ends in a line end (or is empty).

    Args:
        block: less than 2 GiB.
        part_ends: shape (parts,), ascending: byte at which each part ends.
    """
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _LINE_END)
    # Without its line ends the block is the data buffer of the array, and each line ends a little earlier in it.
    line_ends = ends - np.arange(len(ends))
    lines_until = np.searchsorted(ends, part_ends)
    is_blank = np.diff(line_ends, prepend=0) == 0
    if is_blank.any():
        blanks_until = np.concatenate([[0], np.cumsum(is_blank)])
        blank_at = np.flatnonzero(is_blank)
        blank_before = blank_at - blanks_until[blank_at]
        blank_part = np.searchsorted(lines_until, blank_at, side="right")
        line_ends = line_ends[~is_blank]
        lines_until = lines_until - blanks_until[lines_until]
    else:
        blank_before = blank_part = np.empty(0, np.int64)
    offsets = np.zeros(len(line_ends) + 1, np.int32)
    offsets[1:] = line_ends
    values = pa.BinaryArray.from_buffers(
        pa.binary(), len(line_ends), [None, pa.py_buffer(offsets), pa.py_buffer(block.replace(b"\n", b""))]
    )
    return Lines(values, np.diff(lines_until, prepend=0), blank_before, blank_part)


def first_longer_line(block: bytes, limit_bytes: int) -> int | None:
    """Start of the first line of `block` that has more than `limit_bytes` without its line end, None if none has."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _LINE_END)
    starts = np.concatenate([[0], ends[:-1] + 1])
    longer = np.flatnonzero(ends - starts > limit_bytes)
    return int(starts[longer[0]]) if len(longer) else None


def join(values: pa.BinaryArray, blank_before: npt.NDArray[np.int64]) -> bytes:
    """The inverse of `split`: the lines, blank ones among them, each with its line end.

    Args:
        values: less than 2 GiB.
        blank_before: as in `Lines`.
    """
    count = len(values) + len(blank_before)
    if not count:
        return b""
    if len(blank_before):
        # Where line i goes once the blank lines before it are put in; the places that no line takes are blank.
        places = np.arange(len(values)) + np.searchsorted(blank_before, np.arange(len(values)), side="right")
        order = np.full(count, -1)
        order[places] = np.arange(len(values))
        values = values.take(pa.array(order, mask=order < 0)).fill_null(b"")
    lengths = np.diff(np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + count + 1])
    out = np.empty(int(lengths.sum()) + count, np.uint8)
    ends = np.cumsum(lengths + 1) - 1
    is_data = np.ones(len(out), bool)
    is_data[ends] = False
    first, last = (int(np.frombuffer(values.buffers()[1], np.int32)[values.offset + i]) for i in (0, count))
    data = values.buffers()[2]
    out[is_data] = np.frombuffer(data, np.uint8)[first:last] if data is not None else 0
    out[ends] = _LINE_END
    return out.tobytes()
