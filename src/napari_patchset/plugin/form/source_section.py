"""Source: the image to cut patches from, other files of the set, and paired images.

A target, labels and a mask belong to the image that they were chosen for: another image has its
own. A layer that was removed from the viewer is no longer offered.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from magicgui.widgets import CheckBox, ComboBox, Label, PushButton
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]  # qtpy adds it
from qtpy.QtWidgets import QFileDialog, QListWidget, QListWidgetItem, QSizePolicy

from napari_patchset.exporting.plans.image_refs import PairRole
from napari_patchset.plugin.dialogs import folder_of
from napari_patchset.plugin.form.fields import Row, Section, small_button
from napari_patchset.plugin.layers.layer_stack import layer_at


def labelled(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return each path with a label: its name, after that of its folder where two are the same."""
    names = [_name(path) for path in paths]
    count = Counter(names)
    return [
        (name if count[name] == 1 else f"{path.parent.name}/{name}", path)
        for name, path in zip(names, paths, strict=True)
    ]


def _name(path: Path) -> str:
    layer = layer_at(path)
    return path.name if layer is None else layer.name


def _is_layer(path: Path) -> bool:
    return str(path).startswith("layer:")


_IMAGE_TIP = "The image to cut patches from."


class SourceSection(Section):
    """The choice of an open image to cut patches from, what it lacks, and a button to open one."""

    def __init__(self) -> None:
        self.file = ComboBox(label="Image", choices=[], nullable=True, tooltip=_IMAGE_TIP)
        self.file.changed.connect(self._show_path)
        self.open = small_button("Open…", "Open a CZI, a TIFF or another image file.")
        self.notes = Label(value="", visible=False)
        super().__init__([Row([self.file, self.open], label="Image"), self.notes])
        self.notes.label = " "
        self.notes.native.setWordWrap(True)
        self.notes.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def show_notes(self, notes: Sequence[str]) -> None:
        """Show what is absent or unknown in the image's file, a line each."""
        self.notes.value, self.notes.visible = "\n".join(notes), bool(notes)

    @property
    def offered(self) -> list[Path]:
        """The images that can be chosen."""
        return [value for value in self.file.choices if value]

    def offer(self, images: Sequence[Path], chosen: Path | None) -> None:
        """Offer images, and choose one of them."""
        with self.file.changed.blocked():
            self.file.choices = labelled(images)
            self.file.value = chosen
        self._show_path()

    def _show_path(self) -> None:
        path = self.file.value
        self.file.tooltip = str(path) if path and not _is_layer(path) else _IMAGE_TIP


ADD_FILES = "Add files…"


class ExtraFilesSection(Section):
    """The other scenes and files of the same patch set."""

    files_changed = Signal()

    def __init__(self) -> None:
        self.all_scenes = CheckBox(
            text="All scenes",
            value=False,
            tooltip="Cut patches from every scene of each file, not only from the shown one.",
        )
        self.add = PushButton(
            text=ADD_FILES,
            tooltip="Cut patches from more files; they go into the same patch set. A folder that "
            "is dropped on the window adds its files, too.",
        )
        self.files: tuple[Path, ...] = ()
        self._texts: list[str] = []
        self.row = Row([self.all_scenes, self.add])
        super().__init__([self.row], labels=False)
        self.list = QListWidget()
        self.list.itemDoubleClicked.connect(lambda _: self.leave_out(self.list.currentRow()))
        delete = QShortcut(QKeySequence(QKeySequence.StandardKey.Delete), self.list)
        delete.setContext(Qt.ShortcutContext.WidgetShortcut)
        delete.activated.connect(lambda: self.leave_out(self.list.currentRow()))
        self.list.hide()
        self.native.layout().addWidget(self.list)

    def set_files(self, files: tuple[Path, ...]) -> None:
        """Set the extra files, each of them once."""
        self.files = tuple(dict.fromkeys(files))
        self.show_counts({})
        self.list.setFixedHeight(min(4, len(self.files)) * self.list.sizeHintForRow(0) + 6)
        self.list.setVisible(bool(self.files))
        self.files_changed.emit()

    def show_counts(self, counts: Mapping[Path, int]) -> None:
        """Show how many patches come from each of the extra files, by path."""
        texts = [
            f"{label}: {counts[path]:,} patch{'es' * (counts[path] != 1)}"
            if path in counts
            else label
            for label, path in labelled(self.files)
        ]
        if texts == self._texts:
            return
        current, self._texts = self.list.currentRow(), texts
        self.list.clear()
        for text, path in zip(texts, self.files, strict=True):
            item = QListWidgetItem(text, self.list)
            item.setToolTip(f"{path}. Double-click or press Delete to remove it.")
        self.list.setCurrentRow(current)

    def leave_out(self, index: int) -> None:
        """Remove one of the extra files."""
        if index >= 0:
            self.set_files(self.files[:index] + self.files[index + 1 :])


_TIPS: dict[PairRole, str] = {
    "target": "What the network should predict, e.g. the clean image.",
    "labels": "The segmentation that belongs to the image.",
    "mask": "What the filter “mask” measures; without one, the labels.",
}

Pairs = Mapping[PairRole, Path]
"""The file, or the layer, of each role that has one."""


class PairsSection(Section):
    """A file for each image that is paired with the one that patches are cut from."""

    def __init__(self) -> None:
        self._image: Path | None = None
        self._open: Sequence[Path] = ()
        self._chosen: dict[Path, dict[PairRole, Path]] = {}
        self._names: dict[Path, str] = {}
        self.boxes: dict[PairRole, ComboBox] = {}
        self.note = Label(value="", label=" ", visible=False)
        super().__init__([*(self._row(role, tip) for role, tip in _TIPS.items()), self.note])
        self.note.native.setWordWrap(True)
        self.note.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def offer(self, image: Path | None, files: Sequence[Path]) -> None:
        """Offer the open files for an image, and show those chosen for it.

        Parameters
        ----------
        image : Path or None
            The image that is shown.
        files : sequence of Path
            The other open files; a layer that is missing here is no longer chosen.
        """
        before = self.value
        self._image, self._open = image, files
        self._names |= {path: _name(path) for path in files if _is_layer(path)}
        with self._quietly():
            for role, box in self.boxes.items():
                box.reset_choices()
                box.value = self.value.get(role)
        if self.value != before:
            self.changed.emit(self)

    def show_elsewhere(self, names: Sequence[str]) -> None:
        """Show which of the paired layers do not lie on the image."""
        self.note.value = "\n".join(
            f"{name!r} lies elsewhere in the window: it is used pixel by pixel, its first pixel "
            "with the first one of the image. If that is wrong, choose a layer that lies on the "
            "image."
            for name in names
        )
        self.note.visible = bool(names)

    def drop_removed(self, there: Collection[Path]) -> list[str]:
        """Drop layers that were removed, for every image; return notices.

        `there` are the layers of the viewer.
        """
        notices = list[str]()
        for chosen in self._chosen.values():
            for role, path in list(chosen.items()):
                if _is_layer(path) and path not in there:
                    del chosen[role]
                    lacking = role if role == "labels" else f"a {role}"
                    notices.append(
                        f"{role.capitalize()}: layer {self._names.get(path, path.name)!r} was "
                        f"removed; patches are exported without {lacking}."
                    )
        return notices

    @property
    def value(self) -> Pairs:
        """The images paired with the shown image, by role."""
        return self.of_image(self._image) if self._image else {}

    def of_image(self, image: Path) -> Pairs:
        """Return the images paired with an image."""
        chosen = self._chosen.get(image, {})
        return {role: path for role, path in chosen.items() if self._is_there(path)}

    def load(self, pairs: Mapping[Path, Pairs]) -> None:
        """Pair files with images."""
        self._chosen |= {image: dict(chosen) for image, chosen in pairs.items()}
        self.offer(self._image, self._open)
        self.changed.emit(self)

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return ", ".join(self.value) or "none"

    def _row(self, role: PairRole, tip: str) -> Row:
        box = ComboBox(choices=lambda _: self._choices(role), nullable=True, tooltip=tip)
        ask = small_button("…", f"Choose the file of the {role}.", width=28)
        ask.changed.connect(lambda: self._ask(role))
        box.changed.connect(lambda path: self._choose(role, path))
        self.boxes[role] = box
        return Row([box, ask], label=role.capitalize())

    def _choices(self, role: PairRole) -> list[tuple[str, Path]]:
        chosen = [self.value[role]] if role in self.value else []
        return labelled(list(dict.fromkeys([*self._open, *chosen])))

    def _is_there(self, path: Path) -> bool:
        return not _is_layer(path) or path in self._open

    def _choose(self, role: PairRole, path: Path | None) -> None:
        if self._image is None:
            return
        chosen = self._chosen.setdefault(self._image, {})
        if path is None:
            chosen.pop(role, None)
        else:
            chosen[role] = path

    def _ask(self, role: PairRole) -> None:
        title = f"The {role} of the image"
        name, _ = QFileDialog.getOpenFileName(self.native, title, folder_of(self._image))
        if name and self._image is not None:
            self.load({self._image: {**self.value, role: Path(name)}})

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Set the boxes without emitting a choice."""
        boxes = list(self.boxes.values())
        for box in boxes:
            box.changed.block()
        try:
            yield
        finally:
            for box in boxes:
                box.changed.unblock()
