"""Where an image's pixels lie in its files: what reading needs of tifffile's pages, and no more."""

from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_BAND = 2**20
"""Bytes of rows that count as one block where pixels are not in segments."""


@dataclass(frozen=True, slots=True)
class PageKind:
    """What all pages behind one of tifffile's keyframes share.

    Attributes
    ----------
    path, offset, index : Path, int, tuple of int
        The keyframe's file, where its directory stands, and its place in the tree of pages.
    shape : tuple of int
        Separate samples, depth, height, width, contiguous samples.
    tile : tuple of int
        Depth, height and width of a segment (tile or strip).
    dtype : dtype
        Of a pixel as stored, with its byte order.
    is_raw : bool
        Whether a page is one run of uncompressed pixels.
    is_jpeg : bool
        Whether a page may bring JPEG tables of its own.
    is_fragile : bool
        Whether damaged pixels may end the process that decodes them.
    fill : float
        The value of segments that are not stored.
    """

    path: Path
    offset: int
    index: tuple[int, ...]
    shape: tuple[int, int, int, int, int]
    tile: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    is_raw: bool
    is_jpeg: bool
    is_fragile: bool
    fill: float

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded page."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row across the whole width, with its contiguous samples."""
        return self.shape[3] * self.shape[4] * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Number of segments along separate samples, depth, height and width."""
        deep, high, wide = (ceil(n / t) for n, t in zip(self.shape[1:4], self.tile, strict=True))
        return self.shape[0], deep, high, wide

    @property
    def n_segments(self) -> int:
        """Number of segments of a page."""
        return 1 if self.is_raw else prod(self.grid)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Height and width of what is decoded at once."""
        _, _, height, width, _ = self.shape
        if self.is_raw:
            return min(height, max(1, _BAND // self.row_nbytes)), width
        return min(self.tile[1], height), min(self.tile[2], width)


@dataclass(frozen=True, slots=True)
class PageTable:
    """All pages of an image at one resolution, by number; picklable and small.

    Attributes
    ----------
    kinds : tuple of PageKind
        One for each file and keyframe.
    kind : ndarray of int32
        Each page's index into `kinds`, -1 for a page that the file does not hold.
    first : ndarray of int64
        Index of each page's first segment in `offsets` and `counts`; at the end, their length.
    offsets, counts : ndarray of int64
        Where each segment begins and how many bytes it has; 0 bytes if it is not stored.
    jpeg_tables : dict of int to bytes
        By page, for JPEG.
    """

    kinds: tuple[PageKind, ...]
    kind: NDArray[np.int32]
    first: NDArray[np.int64]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    jpeg_tables: dict[int, bytes] = field(default_factory=dict)

    @property
    def page_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of every page: separate samples, depth, height, width, contiguous samples."""
        return self.kinds[0].shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of a pixel in native byte order."""
        return self.kinds[0].dtype.newbyteorder("=")

    def locate(self, plane: int) -> tuple[int, int, int, int]:
        """Find a plane's page, separate sample, depth and contiguous sample."""
        separate, deep, _, _, together = self.page_shape
        rest, contiguous = divmod(plane, together)
        rest, depth = divmod(rest, deep)
        page, sample = divmod(rest, separate)
        return page, sample, depth, contiguous

    def is_missing(self, planes: NDArray[np.int64]) -> NDArray[np.bool]:
        """Tell for each plane whether the file lacks its page."""
        separate, deep, _, _, together = self.page_shape
        missing: NDArray[np.bool] = self.kind[planes // (separate * deep * together)] < 0
        return missing

    def segment(self, page: int, index: int) -> tuple[int, int]:
        """Give offset and length of a page's segment."""
        at = int(self.first[page]) + index
        return int(self.offsets[at]), int(self.counts[at])
