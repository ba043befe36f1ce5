"""The contact sheet: a random sample of the patches at full resolution, in a window of its own.

Patches as pictures, read as an export reads them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_patchset.exporting.open_images import OpenImages
from napari_patchset.exporting.tile_reader import read_patch
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.plugin.layers.layer_files import open_image
from napari_patchset.plugin.planning import Planned
from napari_patchset.plugin.worker import Background
from napari_patchset.preview.image import composite, contact_sheet, random_rows
from napari_patchset.preview.patch_colors import CATEGORY_COLORS
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
            stack, chosen = images[spec.source_index, IMAGE]
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


_COUNT = 70
_SIZE = (760, 560)
_LEAST_SIDE = 64
"""Smaller patches are enlarged to be looked at."""


class ContactSheet(QDialog):
    """Show some of the patches, each in a frame of the colour of its category."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Contact sheet")
        self.resize(*_SIZE)
        self.sheet, self.again, self._area = QLabel(), QPushButton("Another sample"), QScrollArea()
        self.sheet.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._area.setWidget(self.sheet)
        self._area.setWidgetResizable(True)
        self.again.setToolTip("Show other patches, drawn at random.")
        layout = QVBoxLayout(self)
        layout.addWidget(self._area)
        layout.addWidget(self.again)
        self._seed = 0
        self._colors: list[str] = []
        self._planned: tuple[Planned, Sequence[Channel]] | None = None
        self.pictures = Background()
        self.pictures.yielded.connect(self._on_ready)
        self.pictures.failed.connect(lambda error: self.sheet.setText(str(error)))
        self.again.clicked.connect(self._draw)

    def show_sample(self, planned: Planned, channels: Sequence[Channel]) -> None:
        """Show a sample of the patches of a plan."""
        self._planned = planned, channels
        self.show()
        self.raise_()
        self._draw()

    def forget(self) -> None:
        """Close the window, and let go of the plan."""
        self._planned = None
        self.close()

    def _draw(self) -> None:
        if self._planned is None:
            return
        planned, channels = self._planned
        rows = random_rows(np.arange(len(planned.grid)), _COUNT, self._seed)
        self._seed += 1
        self._colors = [CATEGORY_COLORS[category] for category in planned.category[rows]]
        self.pictures.start(patch_pictures, planned, rows.tolist(), channels)

    def _on_ready(self, pictures: list[Picture]) -> None:
        times = max(1, -(-_LEAST_SIDE // max(pictures[0].shape[:2])))
        large = [each.repeat(times, axis=0).repeat(times, axis=1) for each in pictures]
        viewport = self._area.viewport()
        width = _SIZE[0] if viewport is None else viewport.width()
        self.sheet.setPixmap(pixmap(contact_sheet(large, self._colors, width)))
