"""Source: which open image patches are cut from, and which other files go along."""

from collections.abc import Sequence
from pathlib import Path

from magicgui.widgets import CheckBox, ComboBox, PushButton
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]  # qtpy adds it
from qtpy.QtWidgets import QListWidget

from napari_patchset.plugin.form.naming import labelled
from napari_patchset.plugin.form.rows import Part, Row, keep_small


class SourcePart(Part):
    """Which of the open images patches are cut from, and a button to open one."""

    def __init__(self) -> None:
        self.file = ComboBox(
            label="Image", choices=[], nullable=True, tooltip="The image to cut patches from."
        )
        self.open = PushButton(text="Open…", tooltip="Open a CZI, a TIFF or another image file.")
        keep_small(self.open)
        super().__init__([Row([self.file, self.open], label="Image")])

    @property
    def offered(self) -> list[Path]:
        """The images that can be chosen."""
        return [value for value in self.file.choices if value]

    def offer(self, images: Sequence[Path], chosen: Path | None) -> None:
        """Offer images, and choose one of them."""
        with self.file.changed.blocked():
            self.file.choices = labelled(images)
            self.file.value = chosen


class MorePart(Part):
    """Which other scenes and files go into the same set."""

    files_changed = Signal()

    def __init__(self) -> None:
        self.all_scenes = CheckBox(
            text="All scenes",
            value=False,
            tooltip="Cut patches from every scene of the file, not from the shown one only.",
        )
        self.add = PushButton(
            text="Add file…", tooltip="Cut patches from more files; they go into the same set."
        )
        self.files: tuple[Path, ...] = ()
        super().__init__([Row([self.all_scenes, self.add])], labels=False)
        self.list = QListWidget()
        self.list.setToolTip(
            "More files of the same set. Double-click one, or press Delete, to leave it out."
        )
        self.list.itemDoubleClicked.connect(lambda _: self.leave_out(self.list.currentRow()))
        leave = QShortcut(QKeySequence(QKeySequence.StandardKey.Delete), self.list)
        leave.setContext(Qt.ShortcutContext.WidgetShortcut)
        leave.activated.connect(lambda: self.leave_out(self.list.currentRow()))
        self.list.hide()
        self.native.layout().addWidget(self.list)

    def set_files(self, files: tuple[Path, ...]) -> None:
        """Set the files that go along, each of them once."""
        self.files = tuple(dict.fromkeys(files))
        self.list.clear()
        self.list.addItems([label for label, _ in labelled(self.files)])
        self.list.setFixedHeight(min(4, len(self.files)) * self.list.sizeHintForRow(0) + 6)
        self.list.setVisible(bool(self.files))
        self.files_changed.emit()

    def leave_out(self, index: int) -> None:
        """Leave one of the files out."""
        if index >= 0:
            self.set_files(self.files[:index] + self.files[index + 1 :])
