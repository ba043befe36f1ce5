"""NumPy arrays as columns of Arrow tables, and parquet files of them.

Columns are passed to Arrow and back by their memory: `pa.array`, `to_numpy` and `pq.read_table`
import pandas where it is installed, which takes 50 MB of a job's memory, and a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.files import write_file


def column(values: NDArray[Any], absent: NDArray[np.bool_] | None = None) -> pa.Array:
    """Convert numbers to an Arrow array, null where they are absent."""
    n, dtype = len(values), values.dtype
    data = _bits(values) if dtype.kind == "b" else np.ascontiguousarray(values)
    nulls = 0 if absent is None else int(absent.sum())
    bitmap = None if absent is None or not nulls else pa.py_buffer(_bits(~absent))
    buffers = [bitmap, pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(dtype), n, buffers, nulls)


def text_column(texts: Sequence[str | None]) -> pa.Array:
    """Convert texts to an Arrow array, null where there is None."""
    encoded = [(text or "").encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    absent = np.array([text is None for text in texts], bool)
    buffers = [pa.py_buffer(data) for data in (_bits(~absent), ends, b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers, int(absent.sum()))


def column_values(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Copy a column without nulls out of Arrow's memory, so that it can be released."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    copied: NDArray[Any] = np.from_dlpack(whole).copy()
    return copied


def release_memory() -> None:
    """Release the memory that Arrow caches: it is seldom used again, and pixels need it."""
    pa.default_memory_pool().release_unused()


def _bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.packbits(values, bitorder="little")


def encode_table(parts: Iterable[pa.Table]) -> bytes:
    """Encode the parts of a table as one parquet file: the same bytes for the same parts."""
    sink, writer = pa.BufferOutputStream(), None
    for part in parts:
        writer = writer or pq.ParquetWriter(sink, part.schema, compression="zstd")
        writer.write_table(part)
    if writer is not None:
        writer.close()
    data: bytes = sink.getvalue().to_pybytes()
    release_memory()
    return data


def write_columns(
    path: Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[bytes, str] | None = None
) -> None:
    """Write a table, and its schema's metadata."""
    table = pa.table({name: column(values) for name, values in columns.items()})
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    write_file(path, [encode_table([table])])


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[bytes, bytes]]:
    """Read the columns of a table, and its schema's metadata.

    Raise UnreadableFileError if it was cut short, or is damaged otherwise.
    """
    try:
        with pq.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
            columns = {name: column_values(file.read([name])[name]) for name in names}
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system, not of what is read
        raise UnreadableFileError(f"{path} is damaged or cut short ({error}).") from error
    release_memory()
    return columns, metadata
