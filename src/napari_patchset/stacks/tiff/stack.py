"""TiffImageStack: one series of a TIFF as a stack, read by tiles or strips.

tifffile decodes these segments; codecs that damaged data can crash run in a process of their own. A
JPEG's header is checked first: it decides which decoder runs, and how much memory that allocates.
"""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from napari_patchset.axes import DepthAxis, check_depth_axis
from napari_patchset.errors import UnknownAxesError
from napari_patchset.source import Rect, SceneId, join_scene, split_scene
from napari_patchset.stacks.cache import OpenFiles, SharedCache, TileCache
from napari_patchset.stacks.fingerprint import file_key, text_key
from napari_patchset.stacks.isolated import POOL
from napari_patchset.stacks.jpeg import is_plain_jpeg, jpeg_frames
from napari_patchset.stacks.metadata import scaled_pixel_size
from napari_patchset.stacks.protocol import Block, FileStack
from napari_patchset.stacks.tiff.pages import PageKind, PagePlane
from napari_patchset.stacks.tiff.series import SeriesIndex, plain_index, series_index
from napari_patchset.stacks.tiff.structure import damaged

_MAX_DECODERS = 1000
"""Decoders of about 10 kB each; an image has one for each kind of page."""

_BAND_BYTES = 4 * 2**20
"""Of a window of uncompressed rows that is read at once."""

_WHOLE_ROWS_BYTES = 64 * 2**10
"""Up to this size, one read of whole rows is faster than one read for each row."""


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
        index = self._index(series, axes)
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
        kinds = [kind for table in self._image.levels for kind in table.kinds]
        self._files = OpenFiles({kind.path for kind in kinds})
        self._cache = TileCache()
        self._decoders: SharedCache[tuple[int, int], _SegmentDecoder] = SharedCache(_MAX_DECODERS)
        self._set_up(0, depth_axis)

    def _index(self, series: SceneId | None, axes: str | None) -> SeriesIndex:
        """Return the file's series; its bare pages if their axes are stated and can't be read."""
        try:
            return series_index(self.data_path, series)
        except UnknownAxesError:
            if axes is None:
                raise
            return plain_index(self.data_path, series)

    def _set_up(self, level: int, depth_axis: DepthAxis) -> None:
        self._level = level
        self._table = table = self._image.levels[level]
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
        missing = np.argwhere(self._table.is_missing(planes))
        return frozenset((s, c, z) for s, c, z in missing.tolist())

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Yield the tiles or strips of a plane that meet a window; see `BlockStack`.

        Uncompressed pages have bands of whole rows. Segments that are not stored are left out if
        they are zero.
        """
        planes = np.atleast_1d(self._planes[sample_idx, channel])
        plane, contiguous = self._table.locate(int(planes[depth]))
        kind = self._table.kind_of(plane.page)
        if kind is None:
            return
        view = partial(_plane_of_segment, depth=plane.depth, contiguous=contiguous)
        covered = (sample_idx,), range(depth, depth + 1), (1, 2)
        if kind.is_raw:
            height, width = kind.block_shape
            for y in range(window.y // height * height, window.y + window.h, height):
                band = Rect(0, y, width, min(height, kind.shape[2] - y))
                read = partial(self._read_rows, kind, plane, band)
                yield Block((self._level, *plane, y), band, *covered, read, view)
            return
        for segment, rect, decode, _ in self._segments(kind, plane, window):
            yield Block((self._level, plane.page, segment), rect, *covered, decode, view)

    def fingerprint(self) -> str:
        """Return the key of the files of this series; others may be in other files."""
        keys = self.file_keys
        return keys[0] if len(keys) == 1 else text_key(keys)

    @cached_property
    def file_keys(self) -> tuple[str, ...]:
        """The key of each of `files`."""
        return tuple(file_key(file) for file in self.files)

    def close(self) -> None:  # noqa: D102, documented on BoundedStack; it closes all levels
        self._files.close()
        self._cache.clear()

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
            page_plane, contiguous = self._table.locate(int(planes[index]))
            targets[page_plane].append((contiguous, out[index]))
        for page_plane, samples in targets.items():
            for pixels, inside in self._pieces(page_plane, window):
                for contiguous, target in samples:
                    target[inside] = pixels[..., contiguous]

    def _pieces(
        self, plane: PagePlane, window: Rect
    ) -> Iterator[tuple[NDArray[Any], tuple[slice, slice]]]:
        """Yield a window of a plane in pieces YXS with all contiguous samples, and where it is.

        Where the file holds no pixels there is no piece.
        """
        self._files.check_open()
        kind = self._table.kind_of(plane.page)
        if kind is None:
            return
        if kind.is_raw:
            n_rows = max(1, _BAND_BYTES // kind.row_nbytes)
            for top in range(0, window.h, n_rows):
                band = Rect(window.x, window.y + top, window.w, min(n_rows, window.h - top))
                pixels = self._read_rows(kind, plane, band)[0]
                yield pixels, (slice(top, top + band.h), slice(None))
            return
        for segment, rect, decode, is_stored in self._segments(kind, plane, window):
            key = self._level, plane.page, segment
            pixels = self._cache.get(key, decode) if is_stored else decode()
            inside, outside = rect.overlap_slices(window)
            yield pixels[plane.depth % kind.tile[0]][inside], outside

    def _read_rows(self, kind: PageKind, plane: PagePlane, band: Rect) -> NDArray[Any]:
        """Read a window of an uncompressed plane at once, ZYXS."""
        _, deep, height, width, samples = kind.shape
        row_bytes, pixel_bytes = kind.row_nbytes, kind.row_nbytes // width
        first_row = (plane.sample * deep + plane.depth) * height + band.y
        start = self._table.segment(plane.page, 0)[0] + first_row * row_bytes
        left, right = band.x * pixel_bytes, (band.x + band.w) * pixel_bytes
        read = partial(self._files.read, kind.path)
        if row_bytes <= max(2 * (right - left), _WHOLE_ROWS_BYTES // band.h):
            rows = np.frombuffer(read(start, band.h * row_bytes), np.uint8)
            cropped = rows.reshape(band.h, -1)[:, left:right]
            pixels = np.ascontiguousarray(cropped).view(kind.dtype)
        else:
            starts = (start + row * row_bytes + left for row in range(band.h))
            pixels = np.frombuffer(b"".join(read(i, right - left) for i in starts), kind.dtype)
        return pixels.reshape(1, band.h, -1, samples)

    def _segments(
        self, kind: PageKind, plane: PagePlane, window: Rect
    ) -> Iterator[tuple[int, Rect, Callable[[], NDArray[Any]], bool]]:
        """Yield the segments that meet a window: index, rectangle, decoder, whether it is stored.

        One that is not stored has the file's fill value; it is left out if that is zero.
        """
        tile_depth, height, width = kind.tile
        _, deep, high, wide = kind.grid
        first = (plane.sample * deep + plane.depth // tile_depth) * high * wide
        for row in range(window.y // height, -(-(window.y + window.h) // height)):
            for column in range(window.x // width, -(-(window.x + window.w) // width)):
                rect = Rect(column * width, row * height, width, height)
                segment = first + row * wide + column
                if self._table.segment(plane.page, segment)[1]:
                    decode = partial(self._decode_segment, kind, plane, segment, rect)
                    yield segment, rect, decode, True
                elif kind.fill:
                    shape = (*kind.tile, kind.shape[4])
                    yield segment, rect, partial(np.full, shape, kind.fill, kind.dtype), False

    def _decode_segment(
        self, kind: PageKind, plane: PagePlane, segment: int, rect: Rect
    ) -> NDArray[Any]:
        """Decode a segment that is stored, ZYXS."""
        data = self._files.read(kind.path, *self._table.segment(plane.page, segment))
        key = self._level, int(self._table.kind_index[plane.page])
        where = f"{kind.path}: page {plane.page}, {rect.w} x {rect.h} px at x={rect.x}, y={rect.y}"
        decoder = self._decoders.get(key, partial(_SegmentDecoder, kind))
        try:
            pixels = decoder.decode(data, segment, self._table.jpeg_tables.get(plane.page))
        except MemoryError:
            raise
        except Exception as error:  # each codec raises errors of its own
            raise damaged(where, f"can't be decoded: {error}") from error
        if pixels.shape[-1] != kind.shape[4]:
            raise damaged(
                where,
                f"decodes to {pixels.shape[-1]} samples a pixel, but the page declares "
                f"{kind.shape[4]}",
            )
        if kind.dtype == np.bool_ and pixels.dtype == np.uint8:  # as fax codecs do
            pixels = pixels != 0
        if pixels.dtype.char != kind.dtype.char:
            raise damaged(
                where, f"decodes to {pixels.dtype}, but the page declares {kind.dtype.name}"
            )
        return pixels


def _plane_of_segment(segment: NDArray[Any], depth: int, contiguous: int) -> NDArray[Any]:
    """Cut one plane out of a segment ZYXS, which has one or all depths of a tile."""
    return segment[depth % len(segment), ..., contiguous]


class _SegmentDecoder:
    """Decode the segments of one kind of page; it keeps no file open."""

    def __init__(self, kind: PageKind) -> None:
        self._kind = kind
        with TiffFile(kind.path) as file:
            file.filehandle.seek(kind.offset)
            page = TiffPage(file, kind.index)
            self._decode: Callable[..., tuple[Any, ...]] = page.decode
            self._jpeg_header = page.jpegheader if kind.is_jpeg else None

    def decode(self, data: bytes, segment: int, jpeg_tables: bytes | None) -> NDArray[Any]:
        """Decode a segment to ZYXS; in another process if damaged data could crash this one."""
        kind, options, is_safe = self._kind, {}, not self._kind.is_fragile
        if kind.is_jpeg:
            _, max_height, max_width = (2 * n for n in kind.tile)
            for frame in jpeg_frames(data):  # before memory is allocated for it
                if frame.height > max_height or frame.width > max_width:
                    raise ValueError(f"its JPEG is of {frame.width} x {frame.height} px")
            options = {"jpegtables": jpeg_tables, "jpegheader": self._jpeg_header}
            whole = (self._jpeg_header or b"") + data
            is_safe = is_safe and is_plain_jpeg(whole, jpeg_tables, kind.shape[4])
        if is_safe:
            pixels: NDArray[Any] = self._decode(data, segment, **options)[0]
            return pixels
        return POOL.decode(
            data,
            prod(kind.tile) * kind.shape[4] * kind.dtype.itemsize,
            path=str(kind.path),
            offset=kind.offset,
            index=kind.index,
            segment=segment,
            tables=b64encode(jpeg_tables).decode() if jpeg_tables else None,
        )
