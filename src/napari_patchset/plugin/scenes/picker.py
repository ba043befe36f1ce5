"""The scene picker: a map of thumbnails, and a list of names for the keyboard.

A worker reads the thumbnails one by one; a damaged scene has none, and the map says why.
"""

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from napari.utils.notifications import show_error
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QComboBox, QCompleter, QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_patchset.plugin.dialogs import message
from napari_patchset.plugin.form.fields import BORDER, SPACING, scroll_past
from napari_patchset.plugin.scenes.map import SceneMap
from napari_patchset.plugin.worker import Worker
from napari_patchset.preview.image import composite, overview
from napari_patchset.source import SceneId
from napari_patchset.stacks.metadata import SceneSummary, image_metadata
from napari_patchset.stacks.opening import open_stack

THUMBNAIL = 256
"""Pixels along the longer side of a thumbnail, roughly."""


class Thumbnail(NamedTuple):
    """The picture of the scene in a row of the list, uint8 RGB, YXC, or the error."""

    row: int
    picture: NDArray[np.uint8] | None
    problem: str = ""


def thumbnails(path: Path, scenes: Sequence[SceneId | None]) -> Generator[Thumbnail, None, str]:
    """Yield a picture of the middle plane of each scene, one after the other.

    Returns
    -------
    str
        The problems of the scenes that have no picture, "" if all have one.
    """
    problems = []
    for index, scene in enumerate(scenes):
        try:
            picture = _picture(path, scene)
        except Exception as error:  # whatever it is, the map shows it, and the others go on
            problems.append(message(error) or type(error).__name__)
            yield Thumbnail(index, None, problems[-1])
        else:
            yield Thumbnail(index, picture)
    return _summary(path, problems)


def _picture(path: Path, scene: SceneId | None) -> NDArray[np.uint8]:
    with open_stack(path, scene) as stack:
        planes, _ = overview(stack, stack.data_shape[0] // 2, longest=THUMBNAIL)
        # The coarsest level may still be larger than a thumbnail.
        step = max(1, max(planes.shape[-2:]) // THUMBNAIL)
        return composite(planes[:, ::step, ::step], image_metadata(stack).channels)


def _summary(path: Path, problems: Sequence[str]) -> str:
    if not problems:
        return ""
    scenes = "A scene" if len(problems) == 1 else f"{len(problems)} scenes"
    has = "has" if len(problems) == 1 else "have"
    return f"{scenes} of {path.name} {has} no thumbnail: {problems[0]}"


_HEIGHT, _TALLEST, _LOWEST = 200, 230, 60
"""The height that a map is fitted to, its maximum with scenes at their smallest, and its minimum
where there is less space."""

_ON, _OFF = Qt.ScrollBarPolicy.ScrollBarAlwaysOn, Qt.ScrollBarPolicy.ScrollBarAlwaysOff


class ScenePicker(QWidget):
    """Show the scenes of a file as thumbnails, and emit the id of the one that is picked."""

    picked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.map, self.names = SceneMap(), _name_list()
        scroll_past(self.names)
        self._area = QScrollArea()
        self._area.setWidget(self.map)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        layout.addWidget(self._area)
        layout.addWidget(self.names)
        self._ids: list[SceneId | None] = []
        self._room = QSize()
        self.loading = Worker()
        self.loading.yielded.connect(self._set_thumbnail)
        self.loading.returned.connect(self._show_problem)
        self.map.picked.connect(self._pick)
        self.map.moved.connect(self._keep_in_sight)
        self.names.activated.connect(self._pick)

    def show_scenes(
        self, path: Path, scenes: Sequence[SceneSummary], current: SceneId | None
    ) -> None:
        """Draw the scenes of a file, the current one marked; thumbnails follow one by one."""
        self.loading.stop()
        self._ids = [scene.id for scene in scenes]
        self.names.clear()
        self.names.addItems([scene.label for scene in scenes])
        self.map.set_scenes(scenes, self._ids.index(current))
        self.mark(current)
        self.setEnabled(True)
        self._fit()  # before it is shown, so that the fields below move once
        self.setVisible(len(scenes) > 1)
        if len(scenes) > 1:
            self.loading.run(thumbnails, path, list(self._ids))

    def wait(self, has_image: bool) -> None:
        """Keep the place, so that no field moves, until the scenes of another image are known."""
        self.setEnabled(False)
        if not has_image:
            self.hide()

    def mark(self, current: SceneId | None) -> None:
        """Mark the scene that is shown."""
        index = self._ids.index(current)
        self.names.setCurrentIndex(index)
        self.map.mark(index)
        self._keep_in_sight(index)

    def mark_chosen(self, chosen: Iterable[SceneId | None]) -> None:
        """Mark the scenes that patches are cut from."""
        self.map.mark_chosen({self._ids.index(scene) for scene in chosen})

    def take(self, room: QSize) -> None:
        """Fit the map to a window that leaves so much space for it."""
        height = min(max(room.height() - BORDER, _LOWEST), _TALLEST)
        if (room := QSize(room.width() - BORDER, height)) != self._room:
            self._room = room
            self._fit()

    def _fit(self) -> None:
        """Take the height that the map needs, up to a limit, beyond which the map scrolls."""
        bar = self._area.verticalScrollBar()
        thickness = bar.sizeHint().width() if bar is not None else 0
        width, most = self._room.width(), self._room.height()
        height = min(_HEIGHT, most)
        self.map.fit(width, height)
        if tall := self.map.height() > most:
            width -= thickness
            self.map.fit(width, height)
        wide = self.map.width() > width
        self._area.setHorizontalScrollBarPolicy(_ON if wide else _OFF)
        self._area.setVerticalScrollBarPolicy(_ON if tall else _OFF)
        below = thickness if wide else 0
        self._area.setFixedHeight(min(self.map.height(), most) + below + BORDER)

    def _keep_in_sight(self, index: int) -> None:
        if 0 <= index < len(self.map.cells):
            x, y = self.map.cells[index].center
            self._area.ensureVisible(int(x), int(y))

    def _pick(self, index: int) -> None:
        scene = self._ids[index]
        self.mark(scene)
        self.picked.emit(scene)

    def _set_thumbnail(self, thumbnail: Thumbnail) -> None:
        if thumbnail.picture is None:
            self.map.set_problem(thumbnail.row, thumbnail.problem)
        else:
            self.map.set_picture(thumbnail.row, thumbnail.picture)

    def _show_problem(self, problem: str) -> None:
        """Notify once of all the scenes that have no picture."""
        if problem:
            show_error(problem)


def _name_list() -> QComboBox:
    """Return a list in which a scene is found by typing a part of its name."""
    names = QComboBox()
    names.setEditable(True)
    names.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    if (completer := names.completer()) is not None:
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
    names.setToolTip("The scene that is shown. Type a part of a name to find another one.")
    names.setAccessibleName("Scene")
    return names
