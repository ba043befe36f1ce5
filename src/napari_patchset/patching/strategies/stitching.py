"""How tiles are cropped and put together again: the fields of CAREamics' TileSpecs.

Neighbours share an overlap, and each gives up half of it, rounded down. What is left covers the
image once, but for lines of one pixel that lie in two tiles where the overlap is odd.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Crops(NamedTuple):
    """What is taken of tiles and where it goes, along one axis or in columns (n, 2 or 3).

    Attributes
    ----------
    crop_coords : int64 array
        First pixel, in the tile.
    crop_size : int64 array
        How many pixels from there.
    stitch_coords : int64 array
        First pixel in the image.
    """

    crop_coords: Integers
    crop_size: Integers
    stitch_coords: Integers


def crop_axis(starts: Integers, n: int, size: int, overlap: int) -> Crops:
    """Crop the tiles along an axis of `n` pixels that start where the edge "shift" lets them.

    Of 200 pixels, tiles of 64 with an overlap of 16 start at 0, 48, 96 and 136; they are cropped
    from 0, 8, 8 and 16 to a size of 56, 48, 48 and 48.
    """
    stitch, length = starts + overlap // 2, np.full(len(starts), size - overlap)
    stitch[0], length[0] = 0, size - overlap // 2
    if len(starts) > 1:
        stitch[-1] = stitch[-2] + length[-2]
    length[-1] = n - stitch[-1]
    return Crops(stitch - starts, length, stitch)
