"""Source: which open image patches are cut from, and which other files go along.

Pairs: a target, labels and a mask beside the image, cut at the same places.

What files and layers are called in a list of choices.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from magicgui.widgets import CheckBox, ComboBox, PushButton
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]  # qtpy adds it
from qtpy.QtWidgets import QFileDialog, QListWidget

from napari_patchset.exporting.plan import PairRole
from napari_patchset.plugin.form.rows import Part, Row, keep_small
from napari_patchset.plugin.layers.layer_stack import layer_at


def labelled(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Give each path a label: the name, after that of its folder where two are the same."""
    names = [_name(path) for path in paths]
    count = Counter(names)
    return [
        (name if count[name] == 1 else f"{path.parent.name}/{name}", path)
        for name, path in zip(names, paths, strict=True)
    ]


def _name(path: Path) -> str:
    layer = layer_at(path)
    return path.name if layer is None else layer.name


class SourceSection(Part):
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


class ExtraFilesSection(Part):
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


_TIPS: dict[PairRole, str] = {
    "target": "The image that a network shall make of this one: denoised, deconvolved, ...",
    "labels": "The segmentation that belongs to the image.",
    "mask": "What the filter “mask” looks at; without one, the labels.",
}


class PairsSection(Part):
    """A file for each image that lies beside the one of the patches."""

    def __init__(self) -> None:
        self._open: Sequence[Path] = ()
        self._asked: dict[PairRole, Path] = {}
        self.boxes: dict[PairRole, ComboBox] = {}
        super().__init__([self._row(role, tip) for role, tip in _TIPS.items()])

    def offer(self, files: Sequence[Path]) -> None:
        """Offer the files that are open; what is chosen stays."""
        with self.changed.blocked():
            self._open = files
            self.load(self.value)

    @property
    def value(self) -> dict[PairRole, Path]:
        """The file of each role that has one."""
        return {role: box.value for role, box in self.boxes.items() if box.value is not None}

    def load(self, chosen: Mapping[PairRole, Path]) -> None:
        """Set a file for each role."""
        for role in self.boxes:
            self._choose(role, chosen.get(role))

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return ", ".join(self.value) or "none"

    def _row(self, role: PairRole, tip: str) -> Row:
        box = ComboBox(choices=lambda _: self._choices(role), nullable=True, tooltip=tip)
        ask = PushButton(text="…", tooltip=f"Choose the file of the {role}.")
        ask.native.setFixedWidth(28)
        ask.changed.connect(lambda: self._ask(role))
        self.boxes[role] = box
        return Row([box, ask], label=role.capitalize())

    def _choices(self, role: PairRole) -> list[tuple[str, Path]]:
        asked = [self._asked[role]] if role in self._asked else []
        return labelled(list(dict.fromkeys([*self._open, *asked])))

    def _choose(self, role: PairRole, file: Path | None) -> None:
        if file is not None:
            self._asked[role] = file
        box = self.boxes[role]
        box.reset_choices()
        box.value = file

    def _ask(self, role: PairRole) -> None:
        name, _ = QFileDialog.getOpenFileName(self.native, f"The {role} of the image")
        if name:
            self._choose(role, Path(name))
