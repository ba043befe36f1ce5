"""The scene picker: thumbnails with names, by mouse or keyboard."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from napari.qt.threading import GeneratorWorker, thread_worker
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPainter, QPixmap, QResizeEvent
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem, QWidget

from napari_patchset.preview import composite, overview
from napari_patchset.source import SceneId
from napari_patchset.stacks.describe import image_metadata
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import open_stack

THUMBNAIL = 84
_MARGIN = 8
_TEXT_LINES = 3


class ScenePicker(QListWidget):
    """Show the scenes of a file as thumbnails; emit the id of the one that is picked."""

    picked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setMovement(QListView.Movement.Static)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.setWordWrap(True)
        self.setUniformItemSizes(True)
        self.setToolTip("Click a scene, or use the arrow keys, to show it.")
        self._worker: GeneratorWorker | None = None
        self.currentRowChanged.connect(self._emit)

    def show_scenes(self, path: Path, scenes: list[SceneSummary], current: SceneId | None) -> None:
        """List the scenes of a file with one of them marked; thumbnails follow by and by."""
        self.stop()
        self.blockSignals(True)
        self.clear()
        for scene in scenes:
            self.addItem(self._item(scene))
        self.setCurrentRow([scene.id for scene in scenes].index(current))
        self.blockSignals(False)
        self.setVisible(len(scenes) > 1)
        self._fit_height()
        if len(scenes) > 1:
            self._load_thumbnails(path, scenes)

    @property
    def loading(self) -> bool:
        """Whether thumbnails are still to come."""
        return self._worker is not None and self._worker.is_running

    def stop(self) -> None:
        """Stop loading thumbnails."""
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _item(self, scene: SceneSummary) -> QListWidgetItem:
        item = QListWidgetItem(f"{scene.label}\n{scene.rect.w} × {scene.rect.h}")
        item.setData(Qt.ItemDataRole.UserRole, scene.id)
        item.setIcon(_icon(np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8)))
        item.setToolTip(f"{scene.label}: {scene.rect.w} × {scene.rect.h} px")
        line = self.fontMetrics().lineSpacing()
        item.setSizeHint(QSize(THUMBNAIL + _MARGIN, THUMBNAIL + _TEXT_LINES * line))
        return item

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the height to the rows that the new width makes."""
        super().resizeEvent(event)
        self._fit_height()

    def _fit_height(self) -> None:
        """Take the height of the rows that are needed, at most two."""
        row = THUMBNAIL + _TEXT_LINES * self.fontMetrics().lineSpacing()
        columns = max(1, self.width() // (THUMBNAIL + _MARGIN))
        self.setFixedHeight(row * min(2, -(-self.count() // columns)) + _MARGIN)

    def _emit(self, row: int) -> None:
        if (item := self.item(row)) is not None:
            self.picked.emit(item.data(Qt.ItemDataRole.UserRole))

    def _load_thumbnails(self, path: Path, scenes: list[SceneSummary]) -> None:
        worker = thread_worker(thumbnails)(path, [scene.id for scene in scenes])
        worker.yielded.connect(lambda found: self._set_thumbnail(worker, *found))
        self._worker = worker
        worker.start()

    def _set_thumbnail(self, worker: GeneratorWorker, row: int, picture: NDArray[np.uint8]) -> None:
        if worker is self._worker and (item := self.item(row)) is not None:
            item.setIcon(_icon(picture))


def thumbnails(path: Path, scenes: list[SceneId | None]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Give a picture of the middle plane of each scene, one after the other."""
    for row, scene in enumerate(scenes):
        with open_stack(path, scene) as stack:
            planes, _ = overview(stack, stack.data_shape[0] // 2, longest=4 * THUMBNAIL)
            picture = composite(planes, image_metadata(stack).channels)
        # A generator that is given up waits here, with no file open.
        yield row, picture


def _icon(picture: NDArray[np.uint8]) -> QIcon:
    """Fit a picture into a square, keeping its proportions."""
    height, width, _ = picture.shape
    image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    fitted = image.copy().scaled(QSize(THUMBNAIL, THUMBNAIL), keep, smooth)
    square = QPixmap(THUMBNAIL, THUMBNAIL)
    square.fill(Qt.GlobalColor.transparent)
    painter = QPainter(square)
    x, y = (THUMBNAIL - fitted.width()) // 2, (THUMBNAIL - fitted.height()) // 2
    painter.drawImage(x, y, fitted)
    painter.end()
    return QIcon(square)
