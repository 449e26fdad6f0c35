"""Arrow columns from and to numpy without `pa.array`, `pa.scalar` and `to_numpy`, which import pandas wherever it is installed.

That takes a second, once a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

_NUMPY_TYPES = {pa.int64(): np.int64, pa.int32(): np.int32, pa.uint8(): np.uint8}


def column(kind: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
    """An array of a fixed-width type over the memory of `values`, without nulls."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def string_column(values: list[str]) -> pa.StringArray:
    """An array of strings without nulls."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def numbers(array: pa.Array) -> npt.NDArray[Any]:
    """The memory of an array of whole numbers; what stands in place of nulls is anything."""
    kind = _NUMPY_TYPES[array.type]
    values: npt.NDArray[Any] = np.frombuffer(array.buffers()[1] or b"", kind)
    return values[array.offset : array.offset + len(array)]
