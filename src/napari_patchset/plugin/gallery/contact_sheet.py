"""The contact sheet: patches at full resolution, drawn at random, in a window of its own."""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_patchset.exporting.open_images import OpenImages
from napari_patchset.exporting.tile_reader import read_patch
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.plugin.layers.layer_stack import open_image
from napari_patchset.plugin.planning import PlanPreview
from napari_patchset.plugin.worker import Worker
from napari_patchset.preview.categories import CATEGORY_COLORS
from napari_patchset.preview.image import composite, contact_sheet, random_rows
from napari_patchset.stacks.metadata import Channel

_COUNT = 70
_SIZE = (760, 560)
_MAX_SHARE = 0.85
"""The share of the screen that the window takes at most; its title bar comes on top."""

_MIN_SIDE = 64
"""Smaller patches are enlarged."""

RGBImage = NDArray[np.uint8]
"""YXC."""


def patch_images(
    planned: PlanPreview, rows: Sequence[int], channels: Sequence[Channel], depth: int | None = None
) -> Generator[RGBImage, None, list[RGBImage]]:
    """Read patches at full resolution, as an export does; yield each, and return all of them.

    Parameters
    ----------
    rows : sequence of int
        The candidates.
    channels : sequence of Channel
        The colour and contrast in which each channel of a patch is shown.
    depth : int or None
        The plane of the image to show of a volume; None for the middle of each.
    """
    images = []
    with OpenImages(planned.state.preview_plan(), open_image) as sources:
        for row in rows:
            spec = planned.grid[int(row)]
            stack, chosen, _ = sources[spec.source_index, IMAGE]
            padding = planned.state.recipe.strategy.padding
            patch = read_patch(stack, chosen, spec, padding)
            if patch.ndim == 4:
                at = patch.shape[1] // 2 if depth is None else depth - spec.start[0]
                patch = patch[:, at]
            images.append(composite(patch, channels))
            yield images[-1]
    return images


def pixmap(image: RGBImage) -> QPixmap:
    """Return an image as Qt's."""
    height, width, _ = image.shape
    converted = QImage(image.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(converted)


def _fitting_size(widget: QWidget) -> QSize:
    """Return the size of the window, or what there is of a small screen, as with large text."""
    size, screen = QSize(*_SIZE), widget.screen()
    return size if screen is None else size.boundedTo(screen.availableSize() * _MAX_SHARE)


class ContactSheet(QDialog):
    """Show some of the patches, each in a frame of the colour of its category."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Contact sheet")
        self.resize(_fitting_size(parent))
        self.sheet, self.again, self._area = QLabel(), QPushButton("Show others"), QScrollArea()
        self.sheet.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._area.setWidget(self.sheet)
        self._area.setWidgetResizable(True)
        self.again.setToolTip("Show other patches, chosen at random.")
        layout = QVBoxLayout(self)
        layout.addWidget(self._area)
        layout.addWidget(self.again)
        self._seed = 0
        self._colors: list[str] = []
        self._planned: tuple[PlanPreview, Sequence[Channel]] | None = None
        self.pictures = Worker()
        self.pictures.returned.connect(self._on_read)
        self.pictures.failed.connect(lambda error: self.sheet.setText(str(error)))
        self.again.clicked.connect(self._draw)

    def show_sample(self, planned: PlanPreview, channels: Sequence[Channel]) -> None:
        """Show a random subset of the patches of a plan."""
        self._planned = planned, channels
        self.show()
        self.raise_()
        self._draw()

    def release(self) -> None:
        """Close the window for good, and forget the plan."""
        self.pictures.release()
        self._planned = None
        self.close()

    def _draw(self) -> None:
        if self._planned is None:
            return
        planned, channels = self._planned
        rows = random_rows(np.arange(len(planned.grid)), _COUNT, self._seed)
        self._seed += 1
        self._colors = [CATEGORY_COLORS[category] for category in planned.category[rows]]
        self.pictures.run(patch_images, planned, rows.tolist(), channels)

    def _on_read(self, images: list[RGBImage]) -> None:
        times = max(1, -(-_MIN_SIDE // max(images[0].shape[:2])))
        large = [each.repeat(times, axis=0).repeat(times, axis=1) for each in images]
        viewport = self._area.viewport()
        width = _SIZE[0] if viewport is None else viewport.width()
        self.sheet.setPixmap(pixmap(contact_sheet(large, self._colors, width)))
