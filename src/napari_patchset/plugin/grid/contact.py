"""The contact sheet: a random sample of the patches at full resolution, in a window of its own."""

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_patchset.plugin.grid.pictures import Picture, patch_pictures, pixmap
from napari_patchset.plugin.planning.planned import Planned
from napari_patchset.plugin.window.background import Background
from napari_patchset.preview import COLORS, contact_sheet, random_rows
from napari_patchset.stacks.metadata import Channel

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
        self._colors = [COLORS[category] for category in planned.category[rows]]
        self.pictures.start(patch_pictures, planned, rows.tolist(), channels)

    def _on_ready(self, pictures: list[Picture]) -> None:
        times = max(1, -(-_LEAST_SIDE // max(pictures[0].shape[:2])))
        large = [each.repeat(times, axis=0).repeat(times, axis=1) for each in pictures]
        viewport = self._area.viewport()
        width = _SIZE[0] if viewport is None else viewport.width()
        self.sheet.setPixmap(pixmap(contact_sheet(large, self._colors, width)))
