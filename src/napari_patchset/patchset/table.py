"""The table of a patch set, patches.parquet: where each patch was cut from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.source import SourceInfo

NUMBERED_AXES = "TZRIHVB"
"""The axes merged into S; each has a nullable column with the file's own number."""


def patch_table(
    sources: Sequence[SourceInfo],
    size: Sequence[int],
    stack: NDArray[np.int32],
    sample: NDArray[np.int32],
    start: NDArray[np.int32],
    checksums: Sequence[int],
) -> pa.Table:
    """Build the table: one row a patch, in the order of the array.

    `id` counts the candidates, `array` and `index` say where the pixels lie; `source` is the
    source's key and `source_index` its place in the manifest. `t`, `z`, ... are in the file's own
    numbering, null where an axis is not merged into S. `*_start` and `*_size` are pixels counted
    from the image's first one (`*_um` micrometres, null where the pixel size is not known), `pad_*`
    the pixels beyond the image's end, and `checksum` the crc32c of the patch's bytes.
    """
    n = len(stack)
    which = pa.array(stack)
    columns: dict[str, Any] = {
        "id": pa.array(np.arange(n, dtype=np.int64)),
        "array": pa.repeat(f"{UNSPLIT}/image", n),
        "index": pa.array(np.arange(n, dtype=np.int64)),
        "source": pa.array([source.key for source in sources]).take(which),
        "source_index": which,
        "scene": pa.array([_text(s.scene) for s in sources], pa.string()).take(which),
        "sample": pa.array(sample),
        **_numbers(sources, stack, sample),
        **_extents(sources, size, stack, start),
        "split": pa.repeat(UNSPLIT, n),
        "kept": pa.array(np.ones(n, bool)),
        "reason": pa.nulls(n, pa.string()),
        "checksum": pa.array(checksums, pa.uint32()),
    }
    return pa.table(columns)


def table_bytes(table: pa.Table) -> bytes:
    """Encode a table as parquet, the same bytes for the same table."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _text(scene: int | str | None) -> str | None:
    return None if scene is None else str(scene)


def _numbers(
    sources: Sequence[SourceInfo], stack: NDArray[np.int32], sample: NDArray[np.int32]
) -> Mapping[str, pa.Array]:
    columns = {}
    for axis in NUMBERED_AXES:
        values = np.zeros(len(stack), np.int64)
        known = np.zeros(len(stack), bool)
        for i, source in enumerate(sources):
            layout = source.layout
            if axis in layout.sample_axes:
                mask = stack == i
                indices = np.unravel_index(sample[mask], layout.sample_shape)
                index = indices[layout.sample_axes.index(axis)]
                values[mask] = index + source.starts.get(axis, 0)
                known |= mask
        columns[axis.lower()] = pa.array(values, mask=~known)
    return columns


def _extents(
    sources: Sequence[SourceInfo],
    size: Sequence[int],
    stack: NDArray[np.int32],
    start: NDArray[np.int32],
) -> Mapping[str, pa.Array]:
    columns = {}
    for i, name in enumerate(sources[0].layout.spatial_axes.lower()):
        begin = start[:, i].astype(np.int64)
        extent = np.array([source.spatial_shape[i] for source in sources], np.int64)[stack]
        pixel = np.array([_pixel(source, i - len(size)) for source in sources])[stack]
        unknown = np.isnan(pixel)
        columns[f"{name}_start"] = pa.array(begin)
        columns[f"{name}_size"] = pa.array(np.full(len(stack), size[i], np.int64))
        columns[f"{name}_start_um"] = pa.array(begin * pixel, mask=unknown)
        columns[f"{name}_size_um"] = pa.array(size[i] * pixel, mask=unknown)
        columns[f"pad_{name}"] = pa.array(np.maximum(begin + size[i] - extent, 0))
    return columns


def _pixel(source: SourceInfo, axis: int) -> float:
    """Pixel size along the axis -1 (X), -2 (Y) or -3 (Z), NaN if not known."""
    if axis == -3 and source.depth_axis != "Z":
        return np.nan
    value = (source.pixel_size.z, source.pixel_size.y, source.pixel_size.x)[axis]
    return np.nan if value is None else value
