"""A source: an image that patches are cut from, described without its pixels (`SourceInfo`).

A user names it by a path or a URL, and a scene in it as "name.czi@3" (`split_source`).

Its identity is a *key*, which is the same for a copy at another path. The key of a file is a
*fingerprint*: a hash of samples of its bytes. A *digest* is a hash of every byte, as of a plan, a
table or an array. Where sources of one plan have the same fingerprint and other pixels, their keys
are *detailed*: the fingerprint, then a digest.
"""

import operator
import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property
from math import floor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote_to_bytes
from urllib.request import url2pathname

import numpy as np
from pydantic import Field

from napari_patchset._model import Frozen
from napari_patchset.axes import AxisLayout, DepthAxis, check_depth_axis
from napari_patchset.credentials import strip_credentials
from napari_patchset.errors import ArgumentError, UnknownPixelSizeError, UnreadableFileError

SceneId = int | str
"""The file's own id of a scene: a CZI's number, a TIFF's series, the path of an image in a zarr."""


class Rect(NamedTuple):
    """A rectangle in pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int

    def moved(self, right: int, down: int) -> "Rect":
        """Return the rectangle at another place."""
        return Rect(self.x + right, self.y + down, self.w, self.h)

    def overlap_slices(self, window: "Rect") -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the common rectangle as YX slices of this one and as YX slices of the window."""
        x, y, w, h = self
        from_x, from_y, width, height = window
        left, top = max(x, from_x), max(y, from_y)
        right, bottom = min(x + w, from_x + width), min(y + h, from_y + height)
        inside = slice(top - y, bottom - y), slice(left - x, right - x)
        outside = slice(top - from_y, bottom - from_y), slice(left - from_x, right - from_x)
        return inside, outside


class PixelSize(Frozen):
    """Extent of a pixel along each axis in micrometres; None if unknown."""

    z: float | None = None
    y: float | None = None
    x: float | None = None


_WHOLE_TOLERANCE = Fraction(1, 10_000)
"""Pixel sizes that are written with few digits are multiples of each other up to this."""

Ratio = tuple[Fraction, Fraction]
"""Along Y and X, the length of a made pixel in pixels of the source."""


def pixel_ratio(source: PixelSize, wanted: PixelSize, name: str) -> Ratio:
    """Return how many pixels of the source called `name` make one of a wanted size, along Y and X.

    Raises
    ------
    UnknownPixelSizeError
        If the source's size is not known.
    ArgumentError
        If the wanted pixels are smaller.
    """
    ratios = []
    for axis in ("y", "x"):
        own, made = getattr(source, axis), getattr(wanted, axis)
        if own is None:
            raise UnknownPixelSizeError(f"The pixel size of {name} is not known; state it.")
        ratio = Fraction(repr(float(made))) / Fraction(repr(float(own)))
        nearest = round(ratio)
        if abs(ratio - nearest) <= nearest * _WHOLE_TOLERANCE:
            ratio = Fraction(nearest)
        if ratio < 1:
            raise ArgumentError(
                f"The pixels of {name} are {own:g} um along {axis.upper()}, larger than the wanted "
                f"{made:g} um; choose at least {own:g} um."
            )
        ratios.append(ratio.limit_denominator(10**6))
    return ratios[0], ratios[1]


Plane = tuple[int, int, int]
"""Sample, channel and depth, counted from 0."""


class PartialPlanes(Frozen):
    """Planes of a mosaic that have only some of its tiles.

    Attributes
    ----------
    planes : frozenset of (sample, channel, depth)
        The planes.
    covered : tuple of Rect
        The rectangles that have pixels in each of them.
    """

    planes: frozenset[Plane]
    covered: tuple[Rect, ...]


def _is_none(value: object) -> bool:
    return value is None


class SourceInfo(Frozen):
    """Describe one image (a file's scene) that patches are cut from.

    Attributes
    ----------
    name : str
        File and scene, for messages; part of no digest, as it depends on the path.
    key : str
        Key of the content: the same for a copy of the file at another path.
    scene : int, str or None
        The file's own id of the scene, None if it has none.
    axes, shape : str, tuple of int
        The image's own axes before merging into S, and its size along each.
    depth_axis : {"none", "Z", "T"}
        The third spatial axis of a patch.
    starts : dict of str to int
        The file's own number of the first index along an axis; 0 for axes that are not listed.
    dtype : str
        NumPy's name of the pixel type.
    channels : tuple of str
        One name for each channel.
    filter_channels : tuple of str
        Names of channels that are not exported, but that a filter measures; planes count them
        behind the others.
    pixel_size : PixelSize
        In micrometres.
    source_pixel_size : PixelSize or None
        Of the image that was resampled to `pixel_size`; None if it was not.
    level : int or None
        The level that it is resampled from, 0 for full resolution.
    block_shape : tuple of int or None
        Height and width of the tile or chunk that the source decodes at once, None if unknown.
    missing : frozenset of (sample, channel, depth)
        Planes that the file lacks, counted from 0.
    covered : tuple of Rect or None
        The rectangles that have pixels in any plane, None if these are everywhere.
    partial_planes : tuple of PartialPlanes
        The planes that have pixels in only some of these rectangles, by the rectangles.
    rect : Rect or None
        Position on the stage in pixels, None if unknown; scenes of one file whose rectangles
        overlap show the same place.
    columns : dict of str to str
        The source's values in the samples sheet, by column; columns without a value are left out.
    well : str or None
        The name of its well on a plate, if the split reads it.
    """

    name: str = Field(default="the image", exclude=True, repr=False)
    key: str
    scene: SceneId | None = None
    axes: str
    shape: tuple[int, ...]
    depth_axis: DepthAxis = "none"
    starts: dict[str, int] = Field(default_factory=dict)
    dtype: str
    channels: tuple[str, ...]
    filter_channels: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    pixel_size: PixelSize = PixelSize()
    source_pixel_size: PixelSize | None = Field(default=None, exclude_if=_is_none)
    level: int | None = Field(default=None, exclude_if=_is_none)
    block_shape: tuple[int, int] | None = None
    missing: frozenset[Plane] = Field(default=frozenset(), exclude=True)
    covered: tuple[Rect, ...] | None = Field(default=None, exclude=True)
    partial_planes: tuple[PartialPlanes, ...] = Field(default=(), exclude=True)
    rect: Rect | None = None
    columns: dict[str, str] = Field(default_factory=dict, exclude_if=operator.not_)
    well: str | None = Field(default=None, exclude_if=_is_none)

    @cached_property
    def layout(self) -> AxisLayout:
        """The mapping from the image's own axes to SC(Z)YX."""
        return AxisLayout(self.axes, self.shape, self.depth_axis)

    @cached_property
    def ratio(self) -> Ratio | None:
        """How many of the file's pixels make one of these, None if they are the file's own."""
        if self.source_pixel_size is None:
            return None
        return pixel_ratio(self.source_pixel_size, self.pixel_size, self.name)

    def to_file(self, pixels: Sequence[int]) -> tuple[int, ...]:
        """Return a position or an extent, the last two numbers YX, in the file's own pixels."""
        if self.ratio is None:
            return tuple(pixels)
        *depth, y, x = pixels
        scaled = (floor(n * r + Fraction(1, 2)) for n, r in zip((y, x), self.ratio, strict=True))
        return (*depth, *scaled)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size along (Z)YX."""
        return self.layout.stack_shape[2:]

    @property
    def n_samples(self) -> int:
        """Number of samples, the size along S."""
        return self.layout.stack_shape[0]

    @property
    def itemsize(self) -> int:
        """Bytes of one pixel of one channel."""
        return np.dtype(self.dtype).itemsize

    def with_depth_axis(self, depth_axis: DepthAxis) -> "SourceInfo":
        """Return the description with another depth axis; the file is not read."""
        check_depth_axis(self.layout.sizes, depth_axis, self.name)
        layout = AxisLayout(self.axes, self.shape, depth_axis)
        changed = self.with_fields(depth_axis=depth_axis)

        def in_layout(plane: Plane) -> Plane:
            sample, channel, depth = plane
            indices = {**self.layout.unravel(sample), self.depth_axis: depth}
            return layout.ravel(indices), channel, indices.get(depth_axis, 0)

        return changed.with_planes(in_layout)

    def with_fields(self, **fields: Any) -> "SourceInfo":
        """Return a copy with other fields; `model_copy` would copy the cached layout, too."""
        known = {name: getattr(self, name) for name in SourceInfo.model_fields}
        return SourceInfo(**known | fields)

    def with_planes(self, change: Callable[[Plane], Plane | None]) -> "SourceInfo":
        """Return a copy whose planes have other indices, without those that become None."""

        def changed(planes: frozenset[Plane]) -> frozenset[Plane]:
            return frozenset(new for plane in planes if (new := change(plane)) is not None)

        partial = [(changed(group.planes), group.covered) for group in self.partial_planes]
        update = {
            "missing": changed(self.missing),
            "partial_planes": tuple(PartialPlanes(planes=p, covered=c) for p, c in partial if p),
        }
        return self.model_copy(update=update)

    def file_indices(self, sample_idx: int) -> dict[str, int]:
        """Return a sample's index along T, Z, ... in the file's own numbering."""
        indices = self.layout.unravel(sample_idx)
        return {axis: self.starts.get(axis, 0) + index for axis, index in indices.items()}

    def plane_indices(self, sample_idx: int, depth: int) -> tuple[int, int]:
        """Return a plane's index along Z and T, counted from 0; an axis that is absent is 0."""
        indices = {**self.layout.unravel(sample_idx), self.depth_axis: depth}
        return indices.get("Z", 0), indices.get("T", 0)


FILE = "file://"
"""Prefix of the URL of a local file."""

Scene = TypeVar("Scene", bound=SceneId)


def is_remote(path: str | Path) -> bool:
    """Return whether a path is the URL of a store, "https://..." or "s3://..."."""
    return isinstance(path, str) and "://" in path and not path.startswith(FILE)


def local_path(name: str) -> str:
    """Return the path of a "file://" URL; every other name unchanged."""
    if not name.startswith(FILE):
        return name
    path = name.removeprefix(FILE)
    if sys.platform == "win32":
        return url2pathname(path)
    else:  # mypy sees only one of the branches
        return os.fsdecode(unquote_to_bytes(os.fsencode(path)))  # of any bytes


def path_text(path: str | Path) -> str:
    """Return a path as text for JSON, the URL of the file if its name is not UTF-8."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{FILE}{quote(os.fsencode(os.path.abspath(text)))}"
    return text


def refuse_special_file(path: str | Path, mode: int) -> None:
    """Raise UnreadableFileError for a pipe, socket or device: opening it may wait for ever.

    Parameters
    ----------
    mode : int
        `st_mode` of its status.
    """
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnreadableFileError(
            f"{path}: it is a pipe, a socket or a device; copy what it yields to a file."
        )


def split_source(
    name: str | Path, scene: Scene | None = None
) -> tuple[str | Path, Scene | int | str | None]:
    """Split a user's path as `split_scene` does; a remote URL names no scene.

    A password or token in a URL is not part of the returned name; see `strip_credentials`.
    """
    if isinstance(name, Path):
        return split_scene(name, scene)
    if is_remote(name):
        return strip_credentials(name), scene
    return split_scene(local_path(name), scene)


def split_scene(path: str | Path, scene: Scene | None) -> tuple[Path, Scene | int | str | None]:
    """Split "name.czi@3" or "name.zarr@B/3/1" into path and scene, unless a file has that name."""
    path = Path(path)
    if "@" not in str(path) or path.exists():
        return path, scene
    named: int | str | None = None
    if match := re.fullmatch(r"(.+)@(\d+)", path.name, re.DOTALL):
        file, named = path.with_name(match[1]), int(match[2])
    else:
        texts = str(path).split("@")
        heads = (("@".join(texts[:i]), "@".join(texts[i:])) for i in range(len(texts) - 1, 0, -1))
        file = path
        for head, tail in heads:
            if head and tail and Path(head).exists():
                file, named = Path(head), Path(tail).as_posix()
                break
    if named is not None and scene is not None:
        raise ArgumentError(
            f"The file name {path.name} names a scene, and so does the argument {scene!r}; "
            "name it once."
        )
    return file, scene if named is None else named


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts "10" after "9"."""
    return [(int(n or 0), text) for n, text in re.findall(r"(\d{1,18})|(\D+|\d+)", name)]


def join_scene(path: Path, scene: SceneId | None) -> Path:
    """Join path and scene to one name, "name.czi@3"; the inverse of `split_scene`."""
    return path if scene is None else path.with_name(f"{path.name}@{scene}")
