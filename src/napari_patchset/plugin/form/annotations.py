"""Annotations: which outlines the image has, their classes with colours and counts, and their use.

The list of classes is where one chooses what to draw with, and where patches of a class may lie.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from magicgui.widgets import CheckBox, ComboBox, Label
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
)

from napari_patchset.channels import format_channels
from napari_patchset.plugin.dialogs import ask_color
from napari_patchset.plugin.form.fields import Row, Section, scroll_past, small_button

Use = Literal["", "inside", "outside"]
"""Whether patches lie inside of a class only, or outside of it."""

_USES: tuple[tuple[str, Use], ...] = (
    ("anywhere", ""),
    ("only inside", "inside"),
    ("not inside", "outside"),
)
_NAME, _COUNT, _USE = range(3)
_SWATCH = 12
_ABSENT = "#808080"
"""The colour of a class that is used, but not there."""

_MOST_ROWS = 6


class ClassInfo(NamedTuple):
    """A class of the annotations.

    Attributes
    ----------
    name, color : str
        Its name, and its colour as "#rrggbb".
    n_outlines : int or None
        How many outlines it has, None if that is unknown.
    """

    name: str
    color: str
    n_outlines: int | None = None


class _ClassList(QTreeWidget):
    """A list whose chosen row Del removes."""

    def __init__(self, remove: Callable[[], None]) -> None:
        super().__init__()
        self._remove = remove

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None and event.key() == Qt.Key.Key_Delete:
            self._remove()
        else:
            super().keyPressEvent(event)


class AnnotationsSection(Section):
    """The outlines that belong to the image, and what they are for.

    Attributes
    ----------
    uses : dict of str to Use
        Where patches may lie, by class.
    """

    drawing_wanted = Signal()
    """Outlines of the chosen class are to be drawn."""
    file_wanted = Signal()
    class_chosen = Signal(str)
    """What is drawn next is of this class, and what is selected in the layer."""
    added = Signal()
    """A new class is wanted."""
    listed = Signal()
    """Other classes are listed."""
    removed = Signal(str)
    renamed = Signal(str, str)
    recolored = Signal(str, str)

    def __init__(self) -> None:
        self._offered: list[tuple[str, Any]] = []
        self._classes: tuple[ClassInfo, ...] = ()
        self._is_layer = self._are_of_former = False
        self._current: str | None = None
        self.uses: dict[str, Use] = {}
        self._image: Path | None = None
        self._uses_of: dict[Path, dict[str, Use]] = {}
        """The uses of the classes of each image shown before."""
        self.outlines = ComboBox(
            label="Outlines",
            choices=lambda _: self._offered,
            nullable=True,
            tooltip="A layer, or a file, with the outlines of this image. A GeoJSON file that is "
            "dropped on the window becomes a layer.",
        )
        self.draw = small_button("Draw…", "Draw outlines of the chosen class on the image.")
        self.ask = small_button("…", "Choose a GeoJSON file, as QuPath writes it.", width=28)
        self.list = _ClassList(self._remove)
        self.add = small_button("Add class", "A new class, to draw with.")
        self.color = small_button("Colour…", "Choose the colour of the chosen class.")
        self.rename = small_button("Rename", "Rename the chosen class (F2, or a double click).")
        self.remove_class = small_button(
            "Remove", "Remove the chosen class, if it has no outline (Del)."
        )
        self.as_labels = CheckBox(
            text="Export the classes as labels",
            value=False,
            tooltip="Beside each patch, an array in which each class has a value.",
        )
        self.by_class = CheckBox(
            text="Colour the patches by class",
            value=False,
            tooltip="Draw each patch in the colour of the class that it has most of, instead of "
            "that of its split.",
        )
        self.note = Label(value="", visible=False)
        self.buttons = Row([self.add, self.rename, self.remove_class, self.color])
        super().__init__(
            [
                Section([Row([self.outlines, self.draw, self.ask], label="Outlines")]),
                self.buttons,
                self.as_labels,
                self.by_class,
                self.note,
            ],
            labels=False,
        )
        self.note.native.setWordWrap(True)
        self._make_list()
        self.draw.changed.connect(lambda: self.drawing_wanted.emit())
        self.ask.changed.connect(lambda: self.file_wanted.emit())
        self.add.changed.connect(lambda: self.added.emit())
        self.rename.changed.connect(lambda: self.edit())
        self.remove_class.changed.connect(lambda: self._remove())
        self.color.changed.connect(self._ask_color)
        self.show_classes((), is_layer=False)

    def _make_list(self) -> None:
        tree = self.list
        tree.setHeaderLabels(["Class", "Outlines", "Patches"])
        tree.setRootIsDecorated(False)
        tree.setUniformRowHeights(True)
        tree.setAccessibleName("Classes")
        tree.setToolTip("Click a class to draw with it; double-click its name to rename it.")
        tree.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        if (header := tree.header()) is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(_COUNT, QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(_USE, QHeaderView.ResizeMode.ResizeToContents)
        tree.currentItemChanged.connect(lambda *_: self._on_current())
        tree.itemClicked.connect(lambda *_: self._on_current())
        tree.itemChanged.connect(self._on_edited)
        layout = self.native.layout()
        layout.insertWidget(layout.indexOf(self.buttons.native), tree)

    # What is offered and chosen

    def offer(self, choices: Sequence[tuple[str, Any]], chosen: Any) -> None:
        """Offer layers and files by name, of which one is chosen."""
        with self.changed.blocked(), self.outlines.changed.blocked():
            self._offered = list(choices)
            self.outlines.reset_choices()
            self.outlines.value = chosen

    def show_note(self, text: str) -> None:
        """Show how far a file is read, or what of it is left out; "" for nothing."""
        self.note.value, self.note.visible = text, bool(text)

    def expect_others(self) -> None:
        """Have the classes to come replace those of former outlines, of which no use stays."""
        self._are_of_former = True

    def turn_to(self, image: Path | None, is_alone: bool) -> None:
        """Take the uses that an image had before, none for a new one.

        Other images in the set, if it is not alone, share the uses.
        """
        if image == self._image:
            return
        if self._image is not None:
            self._uses_of[self._image] = dict(self.uses)  # the next image changes its own
        self._image = image
        if is_alone:
            self.uses = {} if image is None else dict(self._uses_of.get(image, {}))

    def drop_uses(self, image: Path) -> tuple[str, ...]:
        """Drop the uses of the classes of an image, and return those that limited its patches."""
        uses = self._uses_of.pop(image, {})
        if image == self._image:
            uses, self.uses = self.uses, {}
        return tuple(name for name, use in uses.items() if use)

    def show_classes(self, classes: Sequence[ClassInfo], is_layer: bool) -> None:
        """Show classes; those of a layer can be drawn with and changed."""
        known = {each.name for each in classes}
        if known and self._are_of_former:
            self._are_of_former = False
            self.uses = {name: use for name, use in self.uses.items() if name in known}
        used = (name for name, use in self.uses.items() if use and name not in known)
        classes = (*classes, *(ClassInfo(name, _ABSENT, 0) for name in used))
        if (tuple(classes), is_layer) != (self._classes, self._is_layer):
            self._classes, self._is_layer = tuple(classes), is_layer
            self._fill()
        self.list.setVisible(bool(classes))
        self.buttons.visible = is_layer
        self.as_labels.visible = self.by_class.visible = bool(classes)
        self._show_removable()
        self.listed.emit()

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """The classes that the annotations have."""
        return tuple(each for each in self._classes if each.color != _ABSENT)

    @property
    def current(self) -> str | None:
        """The class that is chosen to draw with, None if there is none."""
        names = [each.name for each in self._classes]
        return self._current if self._current in names else next(iter(names), None)

    def choose(self, name: str) -> None:
        """Choose a class to draw with."""
        self._current = name
        self._mark_current()

    # What the plan has of it

    @property
    def patch_colors(self) -> tuple[tuple[str, str], ...]:
        """The colour of each class that patches are drawn in; empty for that of their split."""
        return tuple((each.name, each.color) for each in self.classes if self.by_class.value)

    @property
    def region_classes(self) -> tuple[str, ...]:
        """The classes that patches must lie in."""
        return self._names_of("inside")

    @property
    def exclude_classes(self) -> tuple[str, ...]:
        """The classes that patches must not touch."""
        return self._names_of("outside")

    def load(self, inside: Sequence[str], outside: Sequence[str]) -> None:
        """Set the classes that patches must lie in, and those that they must not touch."""
        self._are_of_former = False
        uses: dict[str, Use] = dict.fromkeys(inside, "inside")
        self.uses = {**uses, **dict.fromkeys(outside, "outside")}
        self.show_classes(self.classes, self._is_layer)
        self._fill()

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        said = [] if self.outlines.value is None else [self.outlines.current_choice]
        for text, use in _USES[1:]:
            if names := self._names_of(use):
                said.append(f"{text} {format_channels(names)}")
        if said and self.as_labels.value:
            said.append("as labels")
        return ", ".join(said) or "none"

    def _names_of(self, use: Use) -> tuple[str, ...]:
        return tuple(name for name, each in self.uses.items() if each == use)

    # The list

    def _fill(self) -> None:
        tree = self.list
        with _blocked(tree):
            tree.clear()
            for each in self._classes:
                item = QTreeWidgetItem(
                    ["", "" if each.n_outlines is None else f"{each.n_outlines:,}", ""]
                )
                item.setText(_NAME, each.name)
                item.setIcon(_NAME, _swatch(each.color))
                item.setTextAlignment(
                    _COUNT, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                )
                if self._is_layer:
                    item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
                tree.addTopLevelItem(item)
                tree.setItemWidget(item, _USE, self._use_box(each.name))
        self._mark_current()
        rows = min(_MOST_ROWS, len(self._classes)) * max(0, tree.sizeHintForRow(0))
        header = tree.header()
        tree.setFixedHeight(rows + (0 if header is None else header.sizeHint().height()) + 4)

    def _mark_current(self) -> None:
        names, current = [each.name for each in self._classes], self.current
        with _blocked(self.list):
            if current is not None:
                self.list.setCurrentItem(self.list.topLevelItem(names.index(current)))
        self._show_removable()

    def _use_box(self, name: str) -> QComboBox:
        box = QComboBox()
        for text, use in _USES:
            box.addItem(text, use)
        box.setCurrentIndex([use for _, use in _USES].index(self.uses.get(name, "")))
        box.setToolTip(f"Where patches may lie: anywhere, only inside of {name}, or not in it.")
        box.setAccessibleName(f"Patches and {name}")
        scroll_past(box)
        box.currentIndexChanged.connect(lambda index: self._set_use(name, _USES[index][1]))
        return box

    def _set_use(self, name: str, use: Use) -> None:
        self.uses[name] = use
        if not use and all(each.name != name for each in self.classes):
            self.show_classes(self.classes, self._is_layer)  # the row was there for its use
        self.changed.emit(self)

    def _row(self, item: QTreeWidgetItem | None) -> ClassInfo | None:
        index = -1 if item is None else self.list.indexOfTopLevelItem(item)
        return self._classes[index] if 0 <= index < len(self._classes) else None

    def _on_current(self) -> None:
        """Draw with the class that is clicked, or reached by the arrow keys."""
        if (row := self._row(self.list.currentItem())) is not None:
            self._current = row.name
            self._show_removable()
            self.class_chosen.emit(row.name)

    @property
    def _removable(self) -> ClassInfo | None:
        """The chosen class, if nothing has it: it is of a layer, or used but not there."""
        row = self._row(self.list.currentItem())
        is_removable = row is not None and (self._is_layer or row.color == _ABSENT)
        return row if is_removable and row is not None and row.n_outlines == 0 else None

    def _show_removable(self) -> None:
        self.remove_class.enabled = self._removable is not None

    def _remove(self) -> None:
        if (row := self._removable) is None:
            return
        is_used = self.uses.pop(row.name, "")
        if row.color == _ABSENT:
            self.show_classes(self.classes, self._is_layer)
        else:
            self.removed.emit(row.name)
        if is_used:
            self.changed.emit(self)

    def _on_edited(self, item: QTreeWidgetItem) -> None:
        row, name = self._row(item), item.text(_NAME).strip()
        if row is None or name == row.name:
            return
        if not name:
            self._fill()
            return
        if use := self.uses.pop(row.name, ""):
            self.uses[name] = use
        self._current = name
        self.list.setFocus()  # the list is filled again, and its editor gone with the keys
        self.renamed.emit(row.name, name)

    def edit(self) -> None:
        """Have the name of the chosen class typed."""
        if (item := self.list.currentItem()) is not None:
            self.list.editItem(item, _NAME)

    def _ask_color(self) -> None:
        row = self._row(self.list.currentItem())
        if row is not None and (color := ask_color(self.native, row.color)) is not None:
            self.recolored.emit(row.name, color)


def _swatch(color: str) -> QIcon:
    pixmap = QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)


@contextmanager
def _blocked(tree: QTreeWidget) -> Iterator[None]:
    """Change a list without emitting what a user does."""
    was_blocked = tree.blockSignals(True)
    try:
        yield
    finally:
        tree.blockSignals(was_blocked)
