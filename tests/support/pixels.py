"""Self-proving pixels: a hash of plane, y and x, and never zero.

Any wrong plane, scene, channel or shift differs in nearly every pixel, and padding (zero) can't be
mistaken for image.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

PLANE = "STZCRIHVBMK"
"""The axes that name a plane; S is the scene, M the tile, K the colour component (R, G, B)."""

_Y, _X, _MIX = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xBF58476D1CE4E5B9


def encode(y: ArrayLike, x: ArrayLike, dtype: DTypeLike = np.uint16, **plane: int) -> NDArray[Any]:
    """Return the pixels at (y, x), which broadcast, of a plane such as T=1, Z=0, C=2.

    An axis that is not named is at 0. uint8 and uint16 span 1 to their maximum, float32 lies in
    (0, 1] with 24 exact bits.
    """
    seed = 0
    for axis in PLANE:
        seed = (seed * _MIX + plane.get(axis, 0) + 1) % 2**64
    if unknown := set(plane) - set(PLANE):
        raise TypeError(f"no such axes: {sorted(unknown)}")
    rows, columns = (np.asarray(i, np.int64).astype(np.uint64) for i in (y, x))
    code = rows * np.uint64(_Y) + columns * np.uint64(_X) + np.uint64(seed)
    for shift in (31, 29):
        code = (code ^ (code >> np.uint64(shift))) * np.uint64(_MIX)
    code >>= np.uint64(40)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return ((code + np.uint64(1)) / np.float64(2**24)).astype(kind)
    return (code % np.uint64(np.iinfo(kind).max) + np.uint64(1)).astype(kind)


def expected(
    y0: int, x0: int, h: int, w: int, dtype: DTypeLike = np.uint16, **plane: int
) -> NDArray[Any]:
    """Return a rectangle of a plane, YX."""
    return encode(np.arange(y0, y0 + h)[:, None], np.arange(x0, x0 + w), dtype, **plane)


def expected_rgb(
    y0: int, x0: int, h: int, w: int, dtype: DTypeLike = np.uint8, **plane: int
) -> NDArray[Any]:
    """Return a rectangle of a colour plane, YXC in the order R, G, B."""
    return np.stack([expected(y0, x0, h, w, dtype, K=k, **plane) for k in range(3)], axis=-1)


def whole(stack: Any, sample: int = 0) -> NDArray[Any]:
    """Read all of a sample, C(Z)YX."""
    shape = stack.data_shape[2:]
    return stack.extract_patch(sample, None, [0] * len(shape), shape)
