"""The gallery: patches of a plan or of a set side by side, in a window of its own.

Tabs choose the split, the rejected ones or a reason; a list sorts. Pictures of what is visible are
read in the background. A click goes to the place on the image; K keeps, X rejects by hand what is
selected, which the plan records.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from napari.utils.notifications import show_error
from psygnal import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from napari_patchset.patching.filters.measurements import column_words
from napari_patchset.plugin.captions import reason_text
from napari_patchset.plugin.dialogs import message
from napari_patchset.plugin.form.fields import TextBox
from napari_patchset.plugin.gallery.grid import PatchGrid
from napari_patchset.plugin.gallery.patches import (
    ALL,
    BY_PLACE,
    RANDOM,
    GalleryPatches,
    PlannedPatches,
    RGBImage,
    SetPatches,
)
from napari_patchset.plugin.layers.patch_set import patch_set_layers
from napari_patchset.plugin.layers.scene import LayerTuple
from napari_patchset.plugin.napari_compat import open_viewer
from napari_patchset.plugin.worker import Worker, single_shot_timer
from napari_patchset.source import SourceInfo

_COLUMNS = 3
"""As many as are about as wide as napari's docks on the left, so that the image can be seen."""

_SORT_LENGTH = 8
"""Letters of the order that are always shown."""

_MOST_BY_HAND = 10_000
"""Each is recorded in the plan by its place."""

_INFO_LINES = 4
"""Enough for the place and three metrics; more scrolls."""

_FRAME = 32
"""What a window has around it, mostly a title, in pixels."""

_WAIT_MS = 30
"""Shortest time between looks at what is visible."""

_HELP = "Click: go to the place on the image. Ctrl or Shift + click: select several."
_NO_PLAN = "There are no patches to show; the panel says why."
_SET_HELP = "Click: go to the place on the image that the patch was cut from, if that is shown."


class Gallery(QDialog):
    """Show patches, and have some of them kept or rejected by hand."""

    picked = Signal(int)
    """A row of the plan, whose place is wanted."""
    place_picked = Signal(SourceInfo, int, tuple)
    """The place of a patch of a set: its source, sample and start."""
    decided = Signal(tuple)
    """All overrides of the plan, some of them changed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.tabs, self.sort, self.grid = QTabBar(), QComboBox(), PatchGrid()
        self.count, self.info = QLabel(), QLabel(_HELP)
        self.decisions: dict[bool | None, QPushButton] = {
            True: _button("Keep", "Export the selected patches whatever the filters say (K)."),
            False: _button("Reject", "Do not export the selected patches (X)."),
            None: _button("Reset", "Leave the selected patches to the filters again (Del)."),
        }
        self.as_layers = _button("As layers", "Show the patches as layers of a new napari window.")
        self._fill()
        self._patches: GalleryPatches | None = None
        self._groups: list[str] = []
        self._seed, self._described = 0, -1
        self.pictures, self.opening, self.reading_layers = Worker(), Worker(), Worker()
        self._soon = single_shot_timer(self, self._read, _WAIT_MS)
        self.pictures.yielded.connect(self._on_read)
        self.opening.returned.connect(self.show_patches)
        self.reading_layers.returned.connect(self._open_layers)
        for worker in (self.opening, self.reading_layers):
            worker.failed.connect(lambda error: show_error(message(error)))
        self.pictures.failed.connect(lambda error: self.info.setText(message(error)))
        self.grid.moved.connect(self._read_soon)
        self.grid.hovered.connect(self._describe)
        self.grid.picked.connect(self._pick)
        self.grid.decided.connect(self._decide)
        self.tabs.currentChanged.connect(self._show_group)
        self.sort.activated.connect(self._sort)
        for keep, button in self.decisions.items():
            button.clicked.connect(partial(self._decide_selected, keep))
        self.as_layers.clicked.connect(self._read_layers)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers of the gallery."""
        return self.pictures, self.opening, self.reading_layers

    def show_patches(self, patches: GalleryPatches) -> None:
        """Show the patches of a plan or a set, in the window."""
        self.pictures.stop()
        self._patches = patches
        self.setWindowTitle(f"Gallery: {patches.name}")
        is_plan = isinstance(patches, PlannedPatches)
        for button in self.decisions.values():
            button.setVisible(is_plan)
        self.as_layers.setVisible(not is_plan)
        self.grid.forget_pictures()
        self._enable(True)
        self._offer(self._by)
        self._offer_groups(ALL)
        self._show_group()
        self._describe(-1)
        if not self.isVisible():
            self._place()
        self.show()
        self.raise_()
        self.grid.setFocus()

    def follow(self, patches: PlannedPatches) -> None:
        """Show a newer plan: of the same candidates, where they are."""
        before = self._patches
        if not isinstance(before, PlannedPatches):
            return
        if before.planned.grid is not patches.planned.grid:
            self.show_patches(patches)
            return
        if before.channels != patches.channels:
            self.grid.forget_pictures()
        self._patches = patches
        self._enable(True)
        self._offer(self._by)
        self._offer_groups(self._group)
        self.grid.update_patches(patches)
        self._count()
        self._describe(self._described)
        self._read_soon()

    def clear(self) -> None:
        """Show no patches of a plan while there is none; those of a set stay."""
        if isinstance(self._patches, PlannedPatches):
            self._soon.stop()
            self.pictures.stop()
            self.grid.update_patches(None)
            self._enable(False)
            self.count.setText("")
            self._describe(-1)

    def _enable(self, enabled: bool) -> None:
        for part in (self.tabs, self.sort, *self.decisions.values()):
            part.setEnabled(enabled)

    def open_set(self, path: str) -> None:
        """Read a set in the background, then show it."""
        self.opening.run(SetPatches.open, Path(path))

    def release(self) -> None:
        """Close the window for good, and forget the patches."""
        self._soon.stop()
        for worker in self.workers:
            worker.release()
        self._patches = None
        self.grid.update_patches(None)
        self.close()

    def _fill(self) -> None:
        self.tabs.setExpanding(False)
        self.tabs.setUsesScrollButtons(True)
        self.sort.setToolTip("The order of the patches.")
        shorter = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.sort.setSizeAdjustPolicy(shorter)  # or else a long name widens the window
        self.sort.setMinimumContentsLength(_SORT_LENGTH)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addLayout(_row(self.sort, before=[QLabel("Sort by")]))
        layout.addWidget(self.grid, 1)
        layout.addWidget(TextBox([self.info], lines=_INFO_LINES))
        # As narrow as need be, or else a longer text would widen the window.
        self.count.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        layout.addLayout(_row(self.count, *self.decisions.values(), self.as_layers))

    def _place(self) -> None:
        """Place the window beside napari's if there is room, or else over its docks on the left."""
        parent, screen = self.parentWidget(), self.screen()
        main = None if parent is None else parent.window()
        if main is None or screen is None:
            return
        room, frame = screen.availableGeometry(), main.frameGeometry()
        width, top = self.grid.width_of(_COLUMNS) + _margins(self), max(room.top(), frame.top())
        self.resize(width, min(main.height(), room.bottom() - top) - _FRAME)
        left = max(room.left(), frame.left())
        if room.right() - frame.right() >= width:
            left = frame.right() + 1
        elif frame.left() - room.left() >= width:
            left = frame.left() - width
        self.move(left, top)

    @property
    def _group(self) -> str:
        index = self.tabs.currentIndex()
        return self._groups[index] if 0 <= index < len(self._groups) else ALL

    @property
    def _by(self) -> tuple[str, bool]:
        """What the patches are sorted by, and whether the highest comes first."""
        return self.sort.currentData() or (BY_PLACE, False)

    def _offer(self, chosen: tuple[str, bool]) -> None:
        assert self._patches is not None
        choices = {BY_PLACE: (BY_PLACE, False), RANDOM: (RANDOM, False)}
        for name in self._patches.metrics:
            words = column_words(name)
            choices |= {f"{words}, lowest first": (name, False)}
            choices |= {f"{words}, highest first": (name, True)}
        if list(choices) != [self.sort.itemText(i) for i in range(self.sort.count())]:
            self.sort.clear()
            for text, value in choices.items():
                self.sort.addItem(text, value)
        values = list(choices.values())
        self.sort.setCurrentIndex(values.index(chosen) if chosen in values else 0)

    def _offer_groups(self, chosen: str) -> None:
        """Show the groups as tabs, with their numbers."""
        assert self._patches is not None
        counts = self._patches.counts
        # An empty one stays while it is shown, so that nothing jumps.
        counts |= {} if chosen in counts else {chosen: 0}
        was_blocked = self.tabs.blockSignals(True)
        while self.tabs.count() > len(counts):
            self.tabs.removeTab(self.tabs.count() - 1)
        while self.tabs.count() < len(counts):
            self.tabs.addTab("")
        self._groups = list(counts)
        for i, (group, n) in enumerate(counts.items()):
            self.tabs.setTabText(i, f"{reason_text(group)} {n:,}".replace("&", "&&"))
        self.tabs.setCurrentIndex(self._groups.index(chosen))
        self.tabs.blockSignals(was_blocked)

    def _sort(self) -> None:
        self._seed += 1
        self._show_group()

    def _show_group(self) -> None:
        patches = self._patches
        if patches is None:
            return
        by, is_descending = self._by
        rows = patches.sorted_rows(patches.rows(self._group), by, self._seed)
        self.grid.show_rows(patches, rows[::-1] if is_descending else rows, by)
        self._count()

    def _count(self) -> None:
        assert self._patches is not None
        n, of = len(self.grid.rows), len(self._patches)
        self.count.setText(f"{n:,} patches" if n == of else f"{n:,} of {of:,} patches")
        self.count.setToolTip(self.count.text())

    def _describe(self, row: int) -> None:
        patches, self._described = self.grid.patches, row
        if patches is None:
            text = _NO_PLAN
        elif row >= 0:
            text = ", ".join(patches.lines(row))
        else:
            text = _SET_HELP if isinstance(patches, SetPatches) else _HELP
        self.info.setText(text)

    def tell_absent(self) -> None:
        """Show why a click went nowhere, until the mouse is on another patch."""
        if self._patches is not None and self._described >= 0:
            name = self._patches.source_name(self._described)
            self.info.setText(f"This patch lies in {name}, which is not shown: open that first.")

    def _pick(self, row: int) -> None:
        self._describe(row)
        if isinstance(self._patches, PlannedPatches):
            self.picked.emit(row)
        elif isinstance(self._patches, SetPatches):
            self.place_picked.emit(*self._patches.source_place(row))

    def _decide_selected(self, keep: bool | None, is_checked: bool = False) -> None:
        self.grid.decide(keep)
        self.grid.setFocus()

    def _decide(self, rows: list[int], keep: bool | None) -> None:
        if len(rows) > _MOST_BY_HAND:
            self.info.setText(
                f"{len(rows):,} patches are selected, and at most {_MOST_BY_HAND:,} at once are "
                "kept or rejected by hand. A filter takes any number."
            )
        elif isinstance(self._patches, PlannedPatches):
            self.decided.emit(self._patches.decide(rows, keep))

    def _read_soon(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _read(self) -> None:
        patches, missing = self.grid.patches, self.grid.missing_rows()
        if patches is not None and missing:
            self.pictures.run(patches.read, missing)

    def _on_read(self, read: tuple[int, RGBImage]) -> None:
        self.grid.set_picture(*read)

    def _read_layers(self) -> None:
        if isinstance(self._patches, SetPatches):
            self.reading_layers.run(patch_set_layers, self._patches.path)

    def _open_layers(self, layers: list[LayerTuple]) -> None:
        if self._patches is not None:
            open_viewer(self._patches.name, layers)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.setAutoDefault(False)  # Enter is for the patches
    return button


def _row(wide: QWidget, *after: QWidget, before: Sequence[QWidget] = ()) -> QHBoxLayout:
    """Return widgets in a row, one of them as wide as there is space."""
    row = QHBoxLayout()
    for widget in (*before, wide, *after):
        row.addWidget(widget, int(widget is wide))
    return row


def _margins(widget: QWidget) -> int:
    """Return what the layout of a widget leaves free at left and right."""
    layout = widget.layout()
    margins = None if layout is None else layout.contentsMargins()
    return 0 if margins is None else margins.left() + margins.right()
