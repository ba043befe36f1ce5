"""What a source decodes at once, so that a reader of many patches decodes each only once."""

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.base import ImageStack


class Block(NamedTuple):
    """A tile, strip or chunk, as one plane of a stack sees it.

    Attributes
    ----------
    key : hashable
        Which one of the stack's it is; several planes may share one.
    rect : Rect
        Where it lies in the plane; it may reach past the image.
    samples, depths : tuple of int, range
        All planes of the channel that it holds a part of.
    yx : tuple of int
        The axes of the decoded array that are Y and X.
    decode : callable
        Gives all that is decoded at once.
    plane : callable
        Gives this plane's pixels YX of what `decode` gave, or of a part of it along Y and X.
    """

    key: Hashable
    rect: Rect
    samples: tuple[int, ...]
    depths: range
    yx: tuple[int, int]
    decode: Callable[[], NDArray[Any]]
    plane: Callable[[NDArray[Any]], NDArray[Any]]


@runtime_checkable
class BlockStack(Protocol):
    """A stack that says what it decodes at once."""

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Give the blocks of a plane that meet a window, from bottom to top; none may be there."""


def blocks_of(
    stack: ImageStack, sample_idx: int, channel: int, depth: int, window: Rect
) -> Iterator[Block]:
    """Give the blocks of any stack: a whole plane is one where the stack does not say."""
    if isinstance(stack, BlockStack):
        return stack.blocks(sample_idx, channel, depth, window)
    *deep, height, width = stack.data_shape[2:]
    start, size = ([depth], [1]) if deep else ([], [])

    def decode() -> NDArray[Any]:
        box = [*start, 0, 0], [*size, height, width]
        return stack.extract_patch(sample_idx, [channel], *box).reshape(height, width)

    rect, depths = Rect(0, 0, width, height), range(depth, depth + 1)
    whole = Block((sample_idx, channel, depth), rect, (sample_idx,), depths, (0, 1), decode, _same)
    return iter((whole,))


def _same(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels
