"""TiffImageStack: one series of a TIFF as a stack, read a tile or strip at a time."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis, require_depth_axis
from napari_patchset.errors import ArgumentError
from napari_patchset.source import PixelSize, Rect, SceneId, join_scene, split_scene
from napari_patchset.stacks.metadata import ImageMetadata, SceneSummary
from napari_patchset.stacks.protocol import Block, FileStack
from napari_patchset.stacks.tiff.decoding import PageReader
from napari_patchset.stacks.tiff.series import TiffImage, TiffImages, read_images


class TiffImageStack(FileStack):
    """Cut patches out of a TIFF file that need not fit into memory.

    Parameters
    ----------
    data_path : str or Path
        The file; a name like "file.tif@1" holds the series too.
    series : int or None
        Its index in the file; None for the only one.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch; the others merge into S in the file's
        order. The samples of a pixel (R, G, B) are channels.

    Attributes
    ----------
    data_path : Path
        The file, absolute.
    scene : int or None
        The series; None where the file has only one.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    data_shape : tuple of int
        Size along `axes`.
    data_dtype : dtype
        The file's own type, in native byte order.
    block_shape : tuple of int
        Height and width of a tile or strip; of uncompressed pixels without one, about 1 MiB.
    metadata : ImageMetadata
        Pixel size, time step, and the channels' names, colours and contrast limits.

    Raises
    ------
    ValueError
        If the series is given twice, is not given where there are several, or does not exist.
    RuntimeError
        If the series does not contain the depth axis.
    UnreadableFileError
        If the file is damaged or of a kind that can't be read.
    """

    def __init__(
        self, data_path: str | Path, series: int | None = None, depth_axis: DepthAxis = "none"
    ) -> None:
        path, series = split_scene(data_path, series)
        self.data_path = path.absolute()
        images = read_images(self.data_path, series)
        chosen = _choose(images, series, self.data_path)
        self.scene = chosen if len(images.shown) > 1 else None
        (self._image,) = images.take([chosen])
        axes = self._image.axes
        require_depth_axis(axes.sizes, depth_axis, str(self.source))
        self._planes = axes.in_stack_order(depth_axis)
        self._reader = PageReader(self._image.levels)
        self._set_up(0, depth_axis)

    def _set_up(self, level: int, depth_axis: DepthAxis) -> None:
        self._level = level
        table = self._image.levels[level]
        _, _, height, width, _ = table.page_shape
        self._layout = AxisLayout(*self._image.axes.at_size(height, width), depth_axis)
        self.axes = self._layout.stack_axes
        self.data_shape = self._layout.stack_shape
        self.data_dtype = table.dtype
        self.block_shape = table.kinds[0].block_shape
        self.metadata = _scaled_metadata(self._image.metadata, self._image.rect, height, width)
        self._coarser: list[Self] = []

    @property
    def source(self) -> Path:
        """The file and, where there are several, the series, as in "file.tif@1"."""
        return join_scene(self.data_path, self.scene)

    @property
    def translation(self) -> Mapping[str, float]:
        """Where the image lies on the stage, in micrometres by axis, as far as the file says it."""
        return self._image.translation

    @property
    def levels(self) -> list[Self]:
        """The stack itself and the same at lower resolutions, finest first; they share one file."""
        missing = range(self._level + 1 + len(self._coarser), len(self._image.levels))
        self._coarser.extend(self._at_level(level) for level in missing)
        return [self, *self._coarser]

    def missing(self, sample_idx: int, channel: int) -> tuple[int, ...]:
        """Give the indices along the depth axis whose plane the file does not hold.

        Without a depth axis it is (0,) for a plane that is missing. `extract_patch` gives zeros
        for such a plane.
        """
        return tuple(np.flatnonzero(self._is_missing(self._planes[sample_idx, channel])).tolist())

    @property
    def missing_planes(self) -> frozenset[tuple[int, int, int]]:
        """Every plane that the file does not hold, as (sample, channel, depth)."""
        n_samples, n_channels = self._planes.shape[:2]
        found = np.argwhere(self._is_missing(self._planes.reshape(n_samples, n_channels, -1)))
        return frozenset((s, c, z) for s, c, z in found.tolist())

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Give the segments of a plane that meet a window; see `BlockStack`."""
        table = self._image.levels[self._level]
        planes = np.atleast_1d(self._planes[sample_idx, channel])
        page, sample, layer, contiguous = table.locate(int(planes[depth]))
        place, depths = (page, sample, layer), range(depth, depth + 1)
        for key, rect, decode in self._reader.blocks(self._level, *place, window):
            view = partial(_plane, depth=layer, contiguous=contiguous)
            yield Block(key, rect, (sample_idx,), depths, (1, 2), decode, view)

    def close(self) -> None:
        """Give back the file, for all levels; a closed stack may be closed again."""
        self._reader.close()

    def _is_missing(self, planes: NDArray[np.int64]) -> NDArray[np.bool]:
        return self._image.levels[self._level].is_missing(planes)

    def _at_level(self, level: int) -> Self:
        # It must not hold this stack: in a circle the file would stay open until it is collected.
        stack = type(self).__new__(type(self))
        stack.__dict__.update(self.__dict__)
        stack._set_up(level, self._layout.depth_axis)
        return stack

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        *_, y, x = start
        window = Rect(x, y, out.shape[-1], out.shape[-2])
        planes = self._planes[sample_idx, list(channels)]
        if planes.ndim == 2:
            planes = planes[:, start[0] : start[0] + out.shape[1]]
        for place, targets in self._by_page(planes, out).items():
            for pixels, inside in self._reader.pieces(self._level, *place, window):
                for contiguous, target in targets:
                    target[inside] = pixels[..., contiguous]

    def _by_page(
        self, planes: NDArray[np.int64], out: NDArray[Any]
    ) -> dict[tuple[int, int, int], list[tuple[int, NDArray[Any]]]]:
        """Bring together what one read fills: the samples of a pixel that stand side by side."""
        table = self._image.levels[self._level]
        found = defaultdict(list)
        for index in np.ndindex(planes.shape):
            page, sample, depth, contiguous = table.locate(int(planes[index]))
            found[page, sample, depth].append((contiguous, out[index]))
        return found


def _plane(segment: NDArray[Any], depth: int, contiguous: int) -> NDArray[Any]:
    """Cut one plane out of a segment ZYXS, which holds one or all depths of a tile."""
    return segment[depth % len(segment), ..., contiguous]


def open_tiff(path: Path, scene: SceneId | None, depth_axis: DepthAxis) -> TiffImageStack:
    """Open one series of a TIFF file; the entry of the format table."""
    if isinstance(scene, str):
        raise ArgumentError(f"{path}: there is no series {scene!r}; a TIFF's series are numbers.")
    return TiffImageStack(path, scene, depth_axis)


def tiff_scenes(path: Path) -> list[SceneSummary]:
    """List the series of a TIFF file; one without an id where there is only one."""
    images = read_images(path)
    found = zip(images.shown, images.take(images.shown), strict=True)
    if len(images.shown) == 1:
        return [_summary(None, path.stem, image) for _, image in found]
    return [_summary(index, images.names[index], image) for index, image in found]


def _summary(index: int | None, name: str, image: TiffImage) -> SceneSummary:
    return SceneSummary(
        id=index,
        name=name,
        rect=image.rect,
        axes=image.axes.axes,
        shape=image.axes.shape,
        dtype=image.levels[0].dtype.name,
    )


def _choose(images: TiffImages, index: int | None, path: Path) -> int:
    n, shown = len(images.names), images.shown
    if index is not None:
        if not 0 <= index < n:
            raise ArgumentError(f"{path}: there is no series {index}; it has {n}, from 0.")
        return index
    if len(shown) > 1:
        listed = ", ".join(f"{each} ({images.names[each]})" for each in shown)
        raise ArgumentError(f"{path} has {len(shown)} series; choose one: {listed}.")
    return shown[0]


def _scaled_metadata(metadata: ImageMetadata, full: Rect, height: int, width: int) -> ImageMetadata:
    """Give the metadata of a lower resolution."""
    size = metadata.pixel_size
    y = size.y and size.y * (full.h / height)
    x = size.x and size.x * (full.w / width)
    return replace(metadata, pixel_size=PixelSize(z=size.z, y=y, x=x))
