"""Spool a stack without a file, an array or a layer, to an OME-Zarr, so that a plan can name it.

The file is named by a digest of its pixels and described by OME-Zarr 0.5 metadata: axes, pixel size
and channels.
"""

import hashlib
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, MemoryStore

from napari_patchset.axes import AxisLayout
from napari_patchset.stacks.metadata import image_metadata
from napari_patchset.stacks.protocol import ImageStack
from napari_patchset.stacks.zarr.chunks import chunk_ends, fingerprint_array

_MAX_CHUNK_SIDE = 2048
_ARRAY = "0"


def spool(
    stack: ImageStack, folder: Path, check_cancelled: Callable[[], None] = lambda: None
) -> Path:
    """Write all of a stack as an OME-Zarr, and return its path for `open_stack` or a plan.

    The name contains a digest of every pixel, so that the same content is written once and changed
    content gets another name.

    Parameters
    ----------
    stack : ImageStack
        SCYX, without a depth axis.
    folder : Path
        Where to write; created if it does not exist.
    check_cancelled : callable
        Called before each read; raises to stop the writing.
    """
    temporary = folder / f".{uuid4().hex}.zarr"
    try:
        digest = _write(stack, LocalStore(temporary), check_cancelled)
        name = re.sub(r"[^\w-]+", "_", str(stack.source)) or "layer"
        path = folder / f"{name}-{digest}.zarr"
        if not path.exists():
            temporary.rename(path)
        return path
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def spooled_fingerprint(stack: ImageStack) -> str:
    """Return the fingerprint that the spooled file of a stack would have, reading little of it."""
    array = _create(stack, MemoryStore())
    chunks = array.chunks

    def ends(key: str) -> bytes:
        corner = [int(i) * n for i, n in zip(key.split("/")[1:], chunks, strict=True)]
        return chunk_ends(_block(stack, corner, chunks).tobytes())

    return fingerprint_array(array, ends)


def _write(stack: ImageStack, store: LocalStore, check_cancelled: Callable[[], None]) -> str:
    array = _create(stack, store)
    digest = hashlib.blake2b(
        f"{np.dtype(stack.data_dtype).str}{array.shape}".encode(), digest_size=8
    )
    starts = (range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True))
    for corner in product(*starts):
        check_cancelled()
        block = _block(stack, corner, array.chunks)
        digest.update(block.data)
        inside = tuple(slice(c, c + n) for c, n in zip(corner, array.chunks, strict=True))
        valid = tuple(slice(0, n - c) for c, n in zip(corner, array.shape, strict=True))
        array[inside] = block[valid]
    return digest.hexdigest()


def _create(stack: ImageStack, store: Any) -> zarr.Array[Any]:
    axes, shape = stack.original_axes, stack.original_data_shape
    group = zarr.create_group(store, attributes={"ome": _ome(stack)})
    plane = [min(n, _MAX_CHUNK_SIDE) for n in shape[-2:]]
    return group.create_array(
        _ARRAY,
        shape=shape,
        dtype=stack.data_dtype,
        chunks=(*[1] * (len(shape) - 2), *plane),
        compressors=None,
        fill_value=0,
        dimension_names=list(axes.lower()),
        config={"write_empty_chunks": True},
    )


def _block(stack: ImageStack, corner: Any, chunks: tuple[int, ...]) -> NDArray[Any]:
    """Read a chunk; zero beyond the image."""
    at = dict(zip(stack.original_axes, corner, strict=True))
    sample = AxisLayout(stack.original_axes, tuple(stack.original_data_shape)).ravel(at)
    pixels = stack.extract_patch(sample, [at.get("C", 0)], corner[-2:], chunks[-2:])
    return np.ascontiguousarray(pixels).reshape(chunks)


def _ome(stack: ImageStack) -> dict[str, Any]:
    """Describe axes, pixel size and channels as OME-Zarr 0.5 does."""
    metadata, axes = image_metadata(stack), stack.original_axes.lower()
    size = metadata.pixel_size
    known = {"z": size.z, "y": size.y, "x": size.x, "t": metadata.time_step}
    transform = {"type": "scale", "scale": [known.get(axis) or 1.0 for axis in axes]}
    described = [_axis(axis, known.get(axis) is not None) for axis in axes]
    datasets = [{"path": _ARRAY, "coordinateTransformations": [transform]}]
    channels = [
        {"label": channel.name, "color": (channel.color or "#ffffff")[1:]}
        for channel in metadata.channels
    ]
    multiscale = {"name": str(stack.source), "axes": described, "datasets": datasets}
    return {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels}}


def _axis(name: str, has_unit: bool) -> dict[str, str]:
    kind = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}.get(name)
    unit = "second" if name == "t" else "micrometer"
    return {"name": name} | ({"type": kind} if kind else {}) | ({"unit": unit} if has_unit else {})
