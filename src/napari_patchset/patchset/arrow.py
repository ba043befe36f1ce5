"""Columns of numbers and texts to Arrow and back, by their memory.

`pa.array`, `to_numpy` and `pq.read_table` would import pandas where it is installed: that takes
50 MB of a job's memory, and a second.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def column(values: NDArray[Any], absent: NDArray[np.bool_] | None = None) -> pa.Array:
    """Give numbers as an Arrow array, null where they are absent."""
    n, dtype = len(values), values.dtype
    data = _bits(values) if dtype.kind == "b" else np.ascontiguousarray(values)
    nulls = 0 if absent is None else int(absent.sum())
    bitmap = None if absent is None or not nulls else pa.py_buffer(_bits(~absent))
    buffers = [bitmap, pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(dtype), n, buffers, nulls)


def text_column(texts: Sequence[str | None]) -> pa.Array:
    """Give texts as an Arrow array, null where there is None."""
    encoded = [(text or "").encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    absent = np.array([text is None for text in texts], bool)
    buffers = [pa.py_buffer(data) for data in (_bits(~absent), ends, b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers, int(absent.sum()))


def column_values(values: pa.ChunkedArray) -> NDArray[Any]:
    """Copy a column without nulls out of Arrow's memory, which can be given back then."""
    copied: NDArray[Any] = np.from_dlpack(values.combine_chunks()).copy()
    return copied


def release_memory() -> None:
    """Give back what Arrow keeps for later: it is used seldom, and pixels need the memory."""
    pa.default_memory_pool().release_unused()


def _bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.packbits(values, bitorder="little")
