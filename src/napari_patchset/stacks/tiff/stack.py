"""TiffImageStack: one series of a TIFF as a stack, read by tiles or strips."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import DepthAxis, check_depth_axis
from napari_patchset.source import Rect, SceneId, join_scene, split_scene
from napari_patchset.stacks.fingerprint import file_key, text_key
from napari_patchset.stacks.metadata import scaled_pixel_size
from napari_patchset.stacks.protocol import Block, FileStack
from napari_patchset.stacks.tiff.decoding import PageReader
from napari_patchset.stacks.tiff.series import series_index


class TiffImageStack(FileStack):
    """Cut patches out of a TIFF file that need not fit into memory.

    Parameters
    ----------
    data_path : str or Path
        The file; a name like "file.tif@1" names the series too.
    series : int or None
        Its index in the file; None for the only one.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch; the others merge into S. The samples of a
        pixel (R, G, B) are channels.
    axes : str or None
        The image's own axes, such as "ZYX", to override those of the file.

    Attributes
    ----------
    data_path, scene : Path, int or None
        The file, absolute, and the series, None where there is only one; for what every stack has
        see `FileStack`.
    block_shape : tuple of int
        Height and width of a tile or strip; of about 1 MiB of rows where there are none.
    translation : dict of str to float
        Position on the stage in micrometres by axis, where the file has it.

    Raises
    ------
    ValueError
        If the series is named twice, is not named where there are several, or does not exist.
    RuntimeError
        If the series does not contain the depth axis.
    UnreadableFileError
        If the file is damaged or of a kind that can't be read.
    """

    def __init__(
        self,
        data_path: str | Path,
        series: SceneId | None = None,
        depth_axis: DepthAxis = "none",
        *,
        axes: str | None = None,
    ) -> None:
        path, series = split_scene(data_path, series)
        self.data_path = path.absolute()
        index = series_index(self.data_path, series)
        chosen = index.choose(series)
        self.scene = chosen if len(index.images) > 1 else None
        self.source = join_scene(self.data_path, self.scene)
        (self._image,) = index.read([chosen])
        index.warn()
        self.files = tuple(self._image.files)
        self.translation = self._image.translation
        if axes is not None:
            self._image = self._image.with_axes(axes, str(self.source))
        check_depth_axis(self._image.axes.sizes, depth_axis, str(self.source))
        self._planes = self._image.axes.planes_of_stack(depth_axis)
        self._reader = PageReader(self._image.levels)
        self._set_up(0, depth_axis)

    def _set_up(self, level: int, depth_axis: DepthAxis) -> None:
        self._level = level
        table = self._image.levels[level]
        _, _, height, width, _ = table.page_shape
        self._layout = self._image.axes.layout(height, width, depth_axis)
        self.axes = self._layout.stack_axes
        self.data_shape = self._layout.stack_shape
        self.data_dtype = table.dtype
        self.block_shape = table.kinds[0].block_shape
        metadata, full = self._image.metadata, self._image.rect
        size = scaled_pixel_size(metadata.pixel_size, (full.h, full.w), (height, width))
        self.metadata = replace(metadata, pixel_size=size)
        self._coarser: list[Self] = []

    @property
    def levels(self) -> list[Self]:
        """The stack itself, then its lower resolutions, which share its open file."""
        missing = range(self._level + 1 + len(self._coarser), len(self._image.levels))
        self._coarser.extend(self._at_level(level) for level in missing)
        return [self, *self._coarser]

    @property
    def missing_planes(self) -> frozenset[tuple[int, int, int]]:
        """Every plane that the file lacks, as (sample, channel, depth)."""
        n_samples, n_channels = self._planes.shape[:2]
        planes = self._planes.reshape(n_samples, n_channels, -1)
        missing = np.argwhere(self._image.levels[self._level].is_missing(planes))
        return frozenset((s, c, z) for s, c, z in missing.tolist())

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Yield the tiles or strips of a plane that meet a window; see `BlockStack`."""
        table = self._image.levels[self._level]
        planes = np.atleast_1d(self._planes[sample_idx, channel])
        plane, contiguous = table.locate(int(planes[depth]))
        view = partial(_plane_of_segment, depth=plane.depth, contiguous=contiguous)
        depths = range(depth, depth + 1)
        for key, rect, decode in self._reader.blocks(self._level, plane, window):
            yield Block(key, rect, (sample_idx,), depths, (1, 2), decode, view)

    def fingerprint(self) -> str:
        """Return the key of the files of this series; others may be in other files."""
        keys = self.file_keys
        return keys[0] if len(keys) == 1 else text_key(keys)

    @cached_property
    def file_keys(self) -> tuple[str, ...]:
        """The key of each of `files`."""
        return tuple(file_key(file) for file in self.files)

    def close(self) -> None:  # noqa: D102, documented on BoundedStack; it closes all levels
        self._reader.close()

    def _at_level(self, level: int) -> Self:
        # Without a reference to this stack: a cycle would keep the file open until it is collected.
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
        # One read of a page fills all planes that are contiguous samples of its pixels.
        targets = defaultdict(list)
        for index in np.ndindex(planes.shape):
            page_plane, contiguous = self._image.levels[self._level].locate(int(planes[index]))
            targets[page_plane].append((contiguous, out[index]))
        for page_plane, samples in targets.items():
            for pixels, inside in self._reader.pieces(self._level, page_plane, window):
                for contiguous, target in samples:
                    target[inside] = pixels[..., contiguous]


def _plane_of_segment(segment: NDArray[Any], depth: int, contiguous: int) -> NDArray[Any]:
    """Cut one plane out of a segment ZYXS, which has one or all depths of a tile."""
    return segment[depth % len(segment), ..., contiguous]
