"""The interface of a stack, and the one place that checks, clips and pads a patch.

A `BlockStack` also tells what it decodes at once, so that a reader of many patches decodes each
block once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from operator import index, lt
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import ArgumentError, SampleIndexError
from napari_patchset.source import Rect


@runtime_checkable
class ImageStack(Protocol):
    """An image from which patches can be cut, in the order SC(Z)YX.

    Names and calls are those of CAREamics' protocol. Optional, found by attribute: `levels` (the
    same stack at lower resolutions, finest first), `block_shape` (height and width of the tile that
    the source decodes at once), `metadata` and `close`.
    """

    @property
    def source(self) -> str | Path:
        """The origin of the image."""

    @property
    def data_shape(self) -> Sequence[int]:
        """Shape of the image, SC(Z)YX."""

    @property
    def data_dtype(self) -> DTypeLike:
        """Type of a pixel."""

    @property
    def original_axes(self) -> str:
        """Axes before merging into S."""

    @property
    def original_data_shape(self) -> Sequence[int]:
        """Shape before merging into S."""

    def extract_patch(
        self,
        sample_idx: int,
        channels: Sequence[int] | None,
        coords: Sequence[int],
        patch_size: Sequence[int],
    ) -> NDArray[Any]:
        """Cut a patch C(Z)YX out of one sample, in the native dtype.

        Inside the image it holds the file's pixels, bit for bit; outside it is zero.

        Parameters
        ----------
        sample_idx : int
            Index along S.
        channels : sequence of int or None
            The channels, in this order; None for all.
        coords : sequence of int
            Start along (Z)YX; may be negative.
        patch_size : sequence of int
            Size along (Z)YX.

        Raises
        ------
        ValueError
            If a channel does not exist, or coords or size do not fit the stack's dimensions.
        IndexError
            If the sample does not exist.
        """


class ClosableStack(ImageStack, Protocol):
    """A stack that keeps a file open: use it in a `with` statement, or close it."""

    def close(self) -> None:
        """Close the file; a closed stack may be closed again."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class BoundedStack(ABC):
    """Check, clip and pad a patch, so that a subclass only reads within bounds."""

    data_shape: Sequence[int]
    data_dtype: DTypeLike

    @abstractmethod
    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        """Fill `out`, zeroed and C(Z)YX, with the pixels that begin at `start`, all in bounds."""

    def extract_patch(  # noqa: D102, documented on the protocol
        self,
        sample_idx: int,
        channels: Sequence[int] | None,
        coords: Sequence[int],
        patch_size: Sequence[int],
    ) -> NDArray[Any]:
        n_samples, n_channels, *bounds = self.data_shape
        selected = _selected_channels(channels, n_channels)
        if not 0 <= sample_idx < n_samples:
            raise SampleIndexError(
                f"Sample index {sample_idx} is out of bounds for data with {n_samples} samples."
            )
        _check_box(coords, patch_size, "YX" if len(bounds) == 2 else "ZYX")
        patch = np.zeros((len(selected), *patch_size), dtype=self.data_dtype)
        low = [max(start, 0) for start in coords]
        high = [min(c + s, n) for c, s, n in zip(coords, patch_size, bounds, strict=True)]
        if selected and all(map(lt, low, high)):
            inside = [slice(a - c, b - c) for a, b, c in zip(low, high, coords, strict=True)]
            self._read(sample_idx, selected, low, patch[(slice(None), *inside)])
        return patch

    def close(self) -> None:  # noqa: B027, a stack without a file has nothing to close
        """Close the file; a closed stack may be closed again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _selected_channels(channels: Sequence[int] | None, count: int) -> list[int]:
    """Resolve None to all channels, and refuse those that do not exist."""
    selected = list(range(count)) if channels is None else [index(c) for c in channels]
    for channel in selected:
        if not 0 <= channel < count:
            raise ArgumentError(
                f"Channel index {channel} is out of bounds for data with {count} channels."
            )
    return selected


def _check_box(coords: Sequence[int], size: Sequence[int], axes: str) -> None:
    """Refuse a start or size that does not fit the spatial axes."""
    if not len(coords) == len(size) == len(axes):
        raise ArgumentError(
            f"A patch of this stack needs {len(axes)} coordinates and sizes ({axes}), "
            f"not {len(coords)} ({tuple(coords)}) and {len(size)} ({tuple(size)})."
        )
    if min(size) < 1:
        raise ArgumentError(f"Patch size {tuple(size)} must be at least 1 along every axis.")


class FileStack(BoundedStack):
    """A stack over one image of a file, laid out by an `AxisLayout`.

    Attributes
    ----------
    source : Path or str
        Names file and scene, and opens the same stack again.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    data_shape : sequence of int
        Size along `axes`.
    data_dtype : dtype
        Type of a pixel, in native byte order.
    block_shape : tuple of int
        Height and width of the tile, strip or chunk that is decoded at once.
    metadata : ImageMetadata
        Pixel size, time step, and the channels' names, colours and contrast limits.
    files, file_keys : tuple of Path, tuple of str
        The files that its pixels are in, and the key of each.
    """

    _layout: AxisLayout

    @property
    def original_axes(self) -> str:
        """Axes before merging into S."""
        return self._layout.axes

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Shape before merging into S."""
        return self._layout.shape


class Block(NamedTuple):
    """A block that a source decodes at once (a tile, strip or chunk), as part of one plane."""

    key: Hashable
    """Identifies the block within the stack; several planes may share one."""
    rect: Rect
    """Where it lies in the plane; it may reach beyond the image."""
    samples: tuple[int, ...]
    depths: range
    """All planes of the channel that it covers in part."""
    yx: tuple[int, int]
    """The axes of the decoded array that are Y and X."""
    decode: Callable[[], NDArray[Any]]
    """Returns the decoded array."""
    plane: Callable[[NDArray[Any]], NDArray[Any]]
    """Returns this plane's pixels YX of the decoded array, or of a part of it along Y and X."""


class BlockStack(Protocol):
    """A stack that reports the blocks that it decodes at once."""

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Yield the blocks of a plane that meet a window, from bottom to top; maybe none."""


def read_plane(
    stack: ImageStack, sample_idx: int, channel: int, depth: int, window: Rect
) -> NDArray[Any]:
    """Return a window, YX, of one plane of any stack."""
    z = [depth] if len(stack.data_shape) == 5 else []
    start, size = [*z, window.y, window.x], [*(1 for _ in z), window.h, window.w]
    return stack.extract_patch(sample_idx, [channel], start, size).reshape(window.h, window.w)


def has_blocks(stack: ImageStack) -> TypeGuard[BlockStack]:
    """Return whether a stack is a `BlockStack`; `isinstance` with a protocol takes 40 us."""
    return hasattr(stack, "blocks")


_DEFAULT_BLOCK = 2048
"""Height and width of the blocks of a stack that is no `BlockStack`."""


def blocks_of(
    stack: ImageStack, sample_idx: int, channel: int, depth: int, window: Rect
) -> Iterator[Block]:
    """Yield the blocks of a plane of any stack; one that is no `BlockStack` is cut into squares."""
    if has_blocks(stack):
        yield from stack.blocks(sample_idx, channel, depth, window)
        return
    height, width = stack.data_shape[-2:]
    n = _DEFAULT_BLOCK
    for y in range(window.y // n * n, min(window.y + window.h, height), n):
        for x in range(window.x // n * n, min(window.x + window.w, width), n):
            rect = Rect(x, y, min(n, width - x), min(n, height - y))
            yield Block(
                key=(sample_idx, channel, depth, y, x),
                rect=rect,
                samples=(sample_idx,),
                depths=range(depth, depth + 1),
                yx=(0, 1),
                decode=partial(read_plane, stack, sample_idx, channel, depth, rect),
                plane=lambda pixels: pixels,
            )
