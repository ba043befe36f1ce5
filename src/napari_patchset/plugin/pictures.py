"""Patches as pictures, read as an export reads them; in the background of the window."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from napari.qt.threading import GeneratorWorker, thread_worker
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtGui import QImage, QPixmap

from napari_patchset.export.opened import OpenImages
from napari_patchset.export.sources import read_patch
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.plugin.planning import Planned
from napari_patchset.preview import composite
from napari_patchset.stacks.metadata import Channel

Picture = NDArray[np.uint8]


def patch_pictures(
    planned: Planned, rows: Sequence[int], channels: Sequence[Channel], depth: int | None = None
) -> list[Picture]:
    """Read patches at full resolution, RGB.

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
    with OpenImages(planned.preview_plan) as images:
        for row in rows:
            spec = planned.grid[int(row)]
            stack, chosen = images[spec.stack, IMAGE]
            patch = read_patch(stack, chosen, spec, images.pad)
            if patch.ndim == 4:
                at = patch.shape[1] // 2 if depth is None else depth - spec.start[0]
                patch = patch[:, at]
            pictures.append(composite(patch, channels))
    return pictures


class BackgroundPictures:
    """Read pictures one request at a time; those of an older request are dropped."""

    ready = Signal(list)
    failed = Signal(Exception)

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None

    @property
    def running(self) -> bool:
        """Whether pictures are being read."""
        return self._worker is not None

    def start(self, *request: Any) -> None:
        """Read what `patch_pictures` reads."""
        self.stop()
        worker: GeneratorWorker = thread_worker(_events)(lambda: patch_pictures(*request))
        worker.yielded.connect(lambda found: self._on_event(worker, found))
        worker.finished.connect(lambda: self._on_end(worker))
        self._worker = worker
        worker.start()

    def stop(self) -> None:
        """Give up what is read now."""
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _on_event(self, worker: GeneratorWorker, found: list[Picture] | Exception) -> None:
        if worker is not self._worker:
            return
        if isinstance(found, Exception):
            self.failed.emit(found)
        else:
            self.ready.emit(found)

    def _on_end(self, worker: GeneratorWorker) -> None:
        if worker is self._worker:
            self._worker = None


def _events(read: Callable[[], list[Picture]]) -> Iterator[list[Picture] | Exception]:
    """Yield what goes wrong too: a worker takes a RuntimeError for its own deletion."""
    try:
        yield read()
    except Exception as error:
        yield error


def pixmap(picture: Picture) -> QPixmap:
    """Turn an RGB picture, YXC, into Qt's."""
    height, width, _ = picture.shape
    image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)
