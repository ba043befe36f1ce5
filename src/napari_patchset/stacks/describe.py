"""Describe a stack as a SourceInfo, from as much of the optional protocol as it has."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_patchset.axes import DepthAxis
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.fingerprint import array_key, file_key
from napari_patchset.stacks.metadata import Channel, ImageMetadata
from napari_patchset.stacks.naming import plain_path


def describe(stack: ImageStack, key: str | None = None) -> SourceInfo:
    """Say what is known of a stack without its pixels.

    A stack with the bare protocol works too: what it does not offer is None or empty.

    Parameters
    ----------
    stack : ImageStack
        The stack.
    key : str or None
        Its `content_key`, where that is known from another scene of the same file.
    """
    return SourceInfo(
        name=plain_path(str(stack.source)),
        key=key or content_key(stack),
        scene=getattr(stack, "scene", None),
        axes=stack.original_axes,
        shape=tuple(stack.original_data_shape),
        depth_axis=_depth_axis(stack),
        starts={axis: start for axis, start in getattr(stack, "starts", {}).items() if start},
        dtype=np.dtype(stack.data_dtype).name,
        channels=channel_names(stack),
        pixel_size=image_metadata(stack).pixel_size,
        block_shape=getattr(stack, "block_shape", None),
        missing=getattr(stack, "missing_planes", frozenset()),
        covered=getattr(stack, "covered", None),
        rect=getattr(stack, "rect", None),
    )


def channel_names(stack: ImageStack) -> tuple[str, ...]:
    """Give one name for each channel."""
    return tuple(channel.name for channel in image_metadata(stack).channels)


def image_metadata(stack: ImageStack) -> ImageMetadata:
    """Give a stack's metadata, or plain channel names where it has none."""
    found: ImageMetadata | None = getattr(stack, "metadata", None)
    if found is not None:
        return found
    return ImageMetadata(tuple(Channel(f"Channel {i}") for i in range(stack.data_shape[1])))


def content_key(stack: ImageStack) -> str:
    """Fingerprint what a stack shows: the same for a copy of the file at another path."""
    fingerprint = getattr(stack, "fingerprint", None)
    if fingerprint is not None and (key := fingerprint()) is not None:
        return str(key)
    path: Any = getattr(stack, "data_path", stack.source)
    if isinstance(path, Path) and path.is_file():
        return file_key(path)
    n_samples, _, *spatial = stack.data_shape
    zeros = [0] * len(spatial)
    samples = (stack.extract_patch(i, None, zeros, spatial) for i in range(n_samples))
    return array_key(np.stack(list(samples)))


def _depth_axis(stack: ImageStack) -> DepthAxis:
    if len(stack.data_shape) == 4:
        return "none"
    return "T" if getattr(stack, "axes", None) == "SCTYX" else "Z"
