"""Patches as pictures, read as an export reads them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QImage, QPixmap

from napari_patchset.export.cutting.single import read_patch
from napari_patchset.export.sources.opened import OpenImages
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.plugin.layers.named import open_image
from napari_patchset.plugin.planning.planned import Planned
from napari_patchset.preview import composite
from napari_patchset.stacks.metadata import Channel

Picture = NDArray[np.uint8]


def patch_pictures(
    planned: Planned, rows: Sequence[int], channels: Sequence[Channel], depth: int | None = None
) -> Iterator[list[Picture]]:
    """Read patches at full resolution, RGB, and yield all of them at once.

    Parameters
    ----------
    rows : sequence of int
        The candidates.
    channels : sequence of Channel
        In which colour and contrast each channel of a patch is shown.
    depth : int or None
        The plane of the image to show of a volume; None for the middle of each.
    """
    pictures = []
    with OpenImages(planned.state.preview_plan(), open_image) as images:
        for row in rows:
            spec = planned.grid[int(row)]
            stack, chosen = images[spec.stack, IMAGE]
            patch = read_patch(stack, chosen, spec, images.pad)
            if patch.ndim == 4:
                at = patch.shape[1] // 2 if depth is None else depth - spec.start[0]
                patch = patch[:, at]
            pictures.append(composite(patch, channels))
    yield pictures


def pixmap(picture: Picture) -> QPixmap:
    """Turn an RGB picture, YXC, into Qt's."""
    height, width, _ = picture.shape
    image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)
