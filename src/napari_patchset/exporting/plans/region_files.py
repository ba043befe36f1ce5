"""Files that are the region of a strategy: GeoJSON, a mask, also as PNG, or a region as JSON."""

import json
import warnings
from collections.abc import Callable
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
from napari_patchset.source import local_path
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.fingerprint import array_key, content_key
from napari_patchset.stacks.opening import open_stack

_CACHED_BYTES = 2**29

_READ: FileCache[Annotations] = FileCache(_CACHED_BYTES, lambda each: each.nbytes)
"""Annotations of the files read last, since a million features take a minute to read."""

_BEGINNING = 4096
"""Bytes of a file that tell what it is."""

Progress = Callable[[int, int], object]


def _ignore(done: int, total: int) -> None:
    """Report no progress."""


def read_annotations(path: str, progress: Progress = _ignore) -> Annotations:
    """Read a GeoJSON file, unless it is cached and has not changed.

    `progress` is called with the bytes read so far and in all; an exception that it raises ends the
    reading.
    """
    return _READ.get(Path(local_path(path)), lambda file: read_geojson(file, progress))


def file_region(path: str, progress: Progress = _ignore) -> GeoJsonRegion | MaskRegion:
    """Return the region that is the mask or the outlines in a file; see `read_annotations`."""
    if is_geojson(path):
        return GeoJsonRegion(path=path, digest=read_annotations(path, progress).key)
    if _is_png(path):
        return MaskRegion(path=path, digest=array_key(_read_png_mask(path)))
    with open_stack(path) as stack:
        return MaskRegion(path=path, digest=content_key(stack))


def named_region(path: str, progress: Progress = _ignore) -> Region:
    """Return the region that a person names: as of `file_region`, or one as in a plan, in JSON."""
    if not path.endswith(".json") or _is_collection(path):
        return file_region(path, progress)
    content = parse_json_file(Path(path))
    if isinstance(content, dict) and not content.keys() & {"kind", "type"}:
        raise ArgumentError(
            f"{path}: not a region; a region is GeoJSON, a mask image, or a JSON object such as "
            '{"kind": "rectangle", "x": 0, "y": 0, "w": 9, "h": 9}.'
        )
    if not isinstance(content, dict) or "kind" not in content:
        return file_region(path, progress)
    try:
        return TypeAdapter[Region](Region).validate_python(content)
    except ValidationError as error:
        raise ArgumentError(f"{path}: not a region: {user_message(error)}.") from None


def parse_json_file(path: Path) -> Any:
    """Parse a JSON file; raise ArgumentError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{path}: not a JSON file: {error}") from None


def _is_collection(path: str) -> bool:
    """Return whether a JSON file begins like a collection of GeoJSON, which may be large."""
    with open(path, "rb") as file:
        return b'"FeatureCollection"' in file.read(_BEGINNING)


def read_region(strategy: PatchStrategy, progress: Progress = _ignore) -> Masks:
    """Read the file that is the region of a strategy, by its digest; empty for another region.

    `progress`: see `read_annotations`.
    """
    region = strategy.region
    if not isinstance(region, FileRegion):
        return {}
    if region.path is None:
        raise ExportError("The plan does not say where the file of its region lies; name it.")
    digest, content = _read_region(region.path, progress)
    if digest != region.digest:
        raise ExportError(f"{region.path} has changed since the plan was made; name it again.")
    return {region.digest: content}


def _read_region(path: str, progress: Progress) -> tuple[str, NDArray[np.bool_] | Annotations]:
    """Return the digest and the content of a region's file."""
    if is_geojson(path):
        annotations = read_annotations(path, progress)
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
