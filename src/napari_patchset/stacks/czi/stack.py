"""CziImageStack: one scene of a CZI file, or all of them, as a stack."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import DepthAxis, require_depth_axis
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SceneId, join_scene, split_scene
from napari_patchset.stacks.czi.geometry import Plane
from napari_patchset.stacks.czi.metadata import image_metadata
from napari_patchset.stacks.czi.scenes import read_scenes, reader_rectangles, scene_layout
from napari_patchset.stacks.czi.tiles import (
    PYRAMID_BLOCK,
    RECENT_PLANES,
    CziLevel,
    CziPixels,
    level_factors,
)
from napari_patchset.stacks.protocol import Block, FileStack

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader, Rectangle

LARGE_PLANE = 4096
"""A plane with a longer side is shown reduced even where the file has no pyramid."""


class CziImageStack(FileStack):
    """Cut patches out of a CZI file.

    Parameters
    ----------
    data_path : str or Path
        The file; a name like "file.czi@0" holds the scene too.
    scene : int or None
        The file's own id of the scene; None for the union of all, with zeros between them.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch; the others merge into S in the order
        T, Z, R, I, H, V, B.

    Attributes
    ----------
    data_path, scene, source : Path, int or None, Path
        The file, the scene, and the two in one name, which opens the same stack again.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    data_shape : list of int
        Size along `axes`, of this scene alone.
    data_dtype : dtype
        The type that holds every channel's pixels.
    block_shape : tuple of int
        Height and width of the most frequent tile.
    metadata : ImageMetadata
        Pixel size, and the channels' names, colours and display ranges.
    rect : Rect
        Where the scene lies on the stage, in pixels.

    Raises
    ------
    ValueError
        If the scene is given twice or does not exist.
    RuntimeError
        If the scene does not contain the depth axis.
    UnreadableFileError
        If the file is damaged or of a kind that can't be read.
    """

    def __init__(
        self,
        data_path: str | Path,
        scene: int | None = None,
        depth_axis: DepthAxis = "none",
    ) -> None:
        self.data_path, self.scene = split_scene(data_path, scene)
        scenes = read_scenes(self.data_path)
        self._geometry = geometry = scenes.geometry(self.scene)
        require_depth_axis(geometry.sizes, depth_axis, str(self.source))
        self._layout = scene_layout(geometry, depth_axis)
        self._pixels = CziPixels(self.data_path, geometry, scenes.decoder())
        self._planes: dict[tuple[int, int, int], Plane] = {}
        self.axes = self._layout.stack_axes
        self.data_shape = list(self._layout.stack_shape)
        self.data_dtype = geometry.dtype
        self.block_shape = geometry.tile_shape
        self.rect = geometry.rect
        self.metadata = image_metadata(scenes.metadata, geometry)

    @property
    def source(self) -> Path:
        """The file and, if one was chosen, the scene, as in "file.czi@0"."""
        return join_scene(self.data_path, self.scene)

    @property
    def starts(self) -> dict[str, int]:
        """The file's own number of the first index along each axis."""
        return self._geometry.starts

    @property
    def covered(self) -> tuple[Rect, ...]:
        """The rectangles that tiles cover, relative to the scene's corner."""
        return self._geometry.covered

    @property
    def levels(self) -> "Sequence[CziImageStack | CziLevel]":
        """The stack itself, then lower resolutions if it has a pyramid or is large."""
        *_, height, width = self.data_shape
        block = PYRAMID_BLOCK if self._geometry.has_pyramid else None
        if block is None and max(height, width) <= LARGE_PLANE:
            return (self,)
        reduced = (CziLevel(self, factor, block) for factor in level_factors(height, width)[1:])
        return (self, *reduced)

    def missing(self, sample_idx: int, channel: int) -> tuple[int, ...]:
        """Give the indices along the depth axis whose plane the file does not hold.

        Without a depth axis it is (0,) for a plane that is missing. `extract_patch` gives zeros
        for such a plane.
        """
        depth = self.data_shape[2] if len(self.axes) == 5 else 1
        planes = [self._plane(sample_idx, channel, z).indices for z in range(depth)]
        return tuple(z for z, plane in enumerate(planes) if not self._geometry.has(plane))

    @property
    def missing_planes(self) -> frozenset[tuple[int, int, int]]:
        """Every plane that the file does not hold, as (sample, channel, depth)."""
        if self._geometry.is_complete:
            return frozenset()
        n_samples, n_channels = self.data_shape[:2]
        pairs = product(range(n_samples), range(n_channels))
        return frozenset((s, c, z) for s, c in pairs for z in self.missing(s, c))

    @classmethod
    def get_bounding_rectangles(
        cls, czi: "Path | str | CziReader"
    ) -> "dict[int | None, Rectangle]":
        """Give the rectangle of each scene in stage pixels, as (x, y, w, h).

        Parameters
        ----------
        czi : Path, str or CziReader
            A file, or one that is open.

        Returns
        -------
        dict of int or None to Rectangle
            By scene id; the one key None in a file without scenes.
        """
        # Only this needs it here: pixels are read with it in processes of their own.
        from pylibCZIrw.czi import CziReader, Rectangle

        if isinstance(czi, CziReader):
            return {scene: Rectangle(*rect) for scene, rect in reader_rectangles(czi).items()}
        return {found.scene: Rectangle(*found.rect) for found in read_scenes(Path(czi)).all()}

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Give the tiles of a plane that meet a window; see `BlockStack`."""
        plane = self._plane(sample_idx, channel, depth)
        left, top = self.rect.x, self.rect.y
        on_stage = window._replace(x=left + window.x, y=top + window.y)
        depths = range(depth, depth + 1)
        for tile, decode, view in self._pixels.blocks(plane, on_stage):
            rect = tile.rect._replace(x=tile.rect.x - left, y=tile.rect.y - top)
            yield Block(tile.row, rect, (sample_idx,), depths, (0, 1), decode, view)

    def close(self) -> None:  # noqa: D102, said on BoundedStack
        self._pixels.close()

    def read_reduced(
        self,
        sample_idx: int,
        channel: int,
        depth: int,
        window: Rect,
        factor: int,
        out: NDArray[Any],
    ) -> None:
        """Fill `out` with a window (in stage pixels) of a plane, reduced by a factor."""
        plane = self._plane(sample_idx, channel, depth)
        self._pixels.read_reduced(plane, window, factor, out)

    def _plane(self, sample_idx: int, channel: int, depth: int) -> Plane:
        """Name a plane; the last ones are kept, as random patches ask for few planes often."""
        which = sample_idx, channel, depth
        found = self._planes.get(which)
        if found is None:
            component = self._geometry.components[channel]
            indices = {**self._layout.unravel(sample_idx), "C": component.channel}
            if self._layout.depth_axis != "none":
                indices[self._layout.depth_axis] = depth
            if len(self._planes) >= RECENT_PLANES:
                self._planes.clear()
            found = Plane(indices, self._geometry.key(indices), component)
            self._planes[which] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planes": {}}

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        y, x = start[-2:]
        left, top, _, _ = self.rect
        window = Rect(left + x, top + y, out.shape[-1], out.shape[-2])
        first = start[0] if len(start) == 3 else 0
        planes = out if out.ndim == 4 else out[:, np.newaxis]
        for channel, stack in zip(channels, planes, strict=True):
            for depth, target in enumerate(stack, first):
                plane = self._plane(sample_idx, channel, depth)
                self._pixels.read(plane, window, target)


def open_czi(path: Path, scene: SceneId | None, depth_axis: DepthAxis) -> CziImageStack:
    """Open one scene of a CZI file; the entry of the format table."""
    if isinstance(scene, str):
        raise ArgumentError(f"{path}: there is no scene {scene!r}; a CZI's scenes are numbers.")
    return CziImageStack(path, scene, depth_axis)
