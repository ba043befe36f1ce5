"""Files that are the region of a strategy: GeoJSON, a mask, also as PNG, or a region as JSON."""

import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from napari_patchset._model import user_message
from napari_patchset.annotations.features import Annotations
from napari_patchset.annotations.geojson import is_geojson, read_geojson
from napari_patchset.errors import ArgumentError, ExportError, UnreadableFileError
from napari_patchset.patching.regions import FileRegion, GeoJsonRegion, MaskRegion, Masks, Region
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.stacks.fingerprint import array_key, content_key
from napari_patchset.stacks.opening import open_stack


def file_region(path: str) -> GeoJsonRegion | MaskRegion:
    """Return the region that is the mask or the outlines in a file."""
    if is_geojson(path):
        return GeoJsonRegion(path=path, digest=read_geojson(path).key)
    if _is_png(path):
        return MaskRegion(path=path, digest=array_key(_read_png_mask(path)))
    with open_stack(path) as stack:
        return MaskRegion(path=path, digest=content_key(stack))


def parse_region(path: str, content: Any) -> Region:
    """Return the region that a JSON file with this content is: GeoJSON, or one as in a plan."""
    if isinstance(content, dict) and not content.keys() & {"kind", "type"}:
        raise ArgumentError(
            f"{path}: not a region; a region is GeoJSON, a mask image, or a JSON object such as "
            '{"kind": "rectangle", "x": 0, "y": 0, "w": 9, "h": 9}.'
        )
    if not isinstance(content, dict) or "kind" not in content:
        return file_region(path)
    try:
        return TypeAdapter[Region](Region).validate_python(content)
    except ValidationError as error:
        raise ArgumentError(f"{path}: not a region: {user_message(error)}.") from None


def read_region(strategy: PatchStrategy) -> Masks:
    """Read the file that is the region of a strategy, by its digest; empty for another region."""
    region = strategy.region
    if not isinstance(region, FileRegion):
        return {}
    if region.path is None:
        raise ExportError("The plan does not say where the file of its region lies; name it.")
    digest, content = _read_region(region.path)
    if digest != region.digest:
        raise ExportError(f"{region.path} has changed since the plan was made; name it again.")
    return {region.digest: content}


def _read_region(path: str) -> tuple[str, NDArray[np.bool_] | Annotations]:
    """Return the digest and the content of a region's file."""
    if is_geojson(path):
        annotations = read_geojson(path)
        for note in annotations.notes:
            warnings.warn(f"{path}: {note}.", stacklevel=4)
        return annotations.key, annotations
    if _is_png(path):
        mask = _read_png_mask(path)
        return array_key(mask), mask
    with open_stack(path) as stack:
        *_, height, width = stack.data_shape
        mask = np.empty((height, width), bool)
        for y in range(0, height, 1024):  # rows read at a time
            n = min(1024, height - y)
            mask[y : y + n] = stack.extract_patch(0, [0], (y, 0), (n, width))[0] != 0
        return content_key(stack), mask


def _is_png(path: str) -> bool:
    # Only a mask may be a PNG: as a source it lacks a pixel size.
    return path.lower().endswith(".png")


def _read_png_mask(path: str) -> NDArray[np.bool_]:
    """Return which pixels YX of a PNG file are neither black nor transparent."""
    try:
        pixels = np.atleast_3d(imagecodecs.png_decode(Path(path).read_bytes()))
    except (ValueError, RuntimeError) as error:
        raise UnreadableFileError(f"{path}: it can't be read as PNG: {error}.") from error
    has_alpha = pixels.shape[2] in (2, 4)
    colors = pixels[..., :-1] if has_alpha else pixels
    mask = np.asarray((colors != 0).any(axis=2))
    return mask & (pixels[..., -1] != 0) if has_alpha else mask
