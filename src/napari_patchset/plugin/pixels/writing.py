"""Painting on pixels that lie in a file: not done, and said once."""

from typing import Any, NoReturn

from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.pixels.redrawing import layers_of

_COPIED_BYTES = 2 * 2**30
"""What a copy of a layer may take in memory."""


def refuse_to_write(array: Any) -> NoReturn:
    """Refuse to change what a file holds; the layers that show it can't be edited from then on.

    Raises
    ------
    ArgumentError
        Always, with what to do instead.
    """
    layers = layers_of(array.arrivals)
    for layer in layers:
        layer.editable = False
    name = layers[0].name if layers else "this array"
    raise ArgumentError(
        f"{name} shows what its file holds, and that is never changed; right-click the layer, "
        "Duplicate, and paint on the copy."
    )


def in_memory(array: Any) -> NDArray[Any]:
    """Give all pixels of a lazy array, for a copy that can be painted.

    Raises
    ------
    ArgumentError
        If they take too much memory.
    """
    nbytes = array.size * array.dtype.itemsize
    if nbytes > _COPIED_BYTES:
        raise ArgumentError(
            f"A copy takes {nbytes / 2**30:.1f} GB of memory, more than the "
            f"{_COPIED_BYTES / 2**30:.0f} GB that a layer may; crop the image first."
        )
    pixels: NDArray[Any] = array.read(array.whole)
    return pixels
