"""A contact sheet: some of the patches beside each other at full resolution."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.picture import rgb

_GAP = 4


def random_rows(candidates: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw some rows, none of them twice, in ascending order."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(candidates, min(count, len(candidates)), replace=False)
    found: NDArray[np.int64] = np.sort(drawn)
    return found


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], colors: Sequence[str], width: int
) -> NDArray[np.uint8]:
    """Lay pictures of one shape out in rows, each in a frame of its colour.

    Parameters
    ----------
    pictures : sequence of uint8 arrays, YXC
        RGB, all of one shape.
    colors : sequence of str
        "#rrggbb" of the frame of each.
    width : int
        Pixels that the sheet may be wide; one picture is always shown whole.

    Returns
    -------
    ndarray
        RGB, YXC, uint8.
    """
    h, w, _ = pictures[0].shape
    pitch_y, pitch_x = h + 2 + _GAP, w + 2 + _GAP
    columns = min(len(pictures), max(1, (width - _GAP) // pitch_x))
    rows = ceil(len(pictures) / columns)
    sheet = np.zeros((_GAP + rows * pitch_y, _GAP + columns * pitch_x, 3), np.uint8)
    for i, (picture, color) in enumerate(zip(pictures, colors, strict=True)):
        y, x = _GAP + i // columns * pitch_y, _GAP + i % columns * pitch_x
        sheet[y : y + h + 2, x : x + w + 2] = 255 * rgb(color)
        sheet[y + 1 : y + 1 + h, x + 1 : x + 1 + w] = picture
    return sheet
