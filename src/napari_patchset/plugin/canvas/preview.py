"""The preview at work: the grid on the image, the patch that is clicked, and the contact sheet.

The patches of the plane that the sliders show, found once among all of a plan.
"""

from typing import NamedTuple

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_patchset.plugin.canvas.overlay import Grid, GridOverlay
from napari_patchset.plugin.gallery.contact_sheet import ContactSheet
from napari_patchset.plugin.gallery.picked_patch import Clicks, PatchView
from napari_patchset.plugin.layers.shown import (
    Shown,
    bring_into_view,
    channels_of,
    plane_of,
    point_on,
    view_of,
    zoom_to,
)
from napari_patchset.plugin.navigation import nearest_patch, neighbour_patch
from napari_patchset.plugin.planning import Planned
from napari_patchset.plugin.state import DESCRIPTIONS
from napari_patchset.plugin.worker import later
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.source import channel_indices
from napari_patchset.stacks.metadata import Channel


class PlaneOf(NamedTuple):
    """The patches of one sample and depth of a plan, found once."""

    planned: Planned
    at: tuple[int, int]
    plane: PlanePatches

    @classmethod
    def find(cls, planned: Planned, at: tuple[int, int]) -> "PlaneOf":
        """Look among all patches of a plan."""
        plane = PlanePatches.of(planned.grid, planned.category, planned.state.shown, *at)
        return cls(planned, at, plane)

    def is_of(self, planned: Planned, at: tuple[int, int]) -> bool:
        """Whether it is the same for another plan and plane."""
        known = self.planned
        return (
            known.grid is planned.grid
            and known.category is planned.category
            and known.state.shown == planned.state.shown
            and self.at == at
        )


_WAIT_MS = 30
"""Sliders that move on are followed no more often than that."""


class Drawn(NamedTuple):
    """What is drawn on the image now: a plan, its grid, and which plane the sliders show."""

    planned: Planned
    grid: Grid
    sample: int
    depth: int


class PreviewControl:
    """Draw what a form comes to, and show the patches that a person asks for.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    window : QWidget
        The owner of the contact sheet's window.
    """

    def __init__(self, viewer: Viewer, window: QWidget) -> None:
        self._viewer = viewer
        self._shown: tuple[Shown, Planned] | None = None
        self._plane: PlaneOf | None = None
        self._soon = later(window, self._follow, _WAIT_MS)
        self.overlay, self.clicks = GridOverlay(viewer, window), Clicks(viewer)
        self.view, self.contact = PatchView(), ContactSheet(window)
        self.sheet_button = QPushButton("Contact sheet…")
        self.sheet_button.setToolTip(
            "Show some of the patches at full resolution, once there are any."
        )
        self.pick_button = QPushButton("Show a patch")
        self.pick_button.setToolTip(
            "Frame the patch in the middle of the view and show it alone; the arrow keys then step "
            "from patch to patch. Or click a patch on the image."
        )
        self.buttons = _row(self.pick_button, self.sheet_button)
        self.clicks.clicked.connect(self._pick)
        self.pick_button.clicked.connect(self._pick_middle)
        self.sheet_button.clicked.connect(self._show_sheet)
        self.view.stepped.connect(self._step)
        self.view.zoomed.connect(self._zoom)
        self.view.closed.connect(self._close)

    @property
    def rows_in_view(self) -> NDArray[np.int64]:
        """The candidates of the plane that is drawn."""
        grid = self.overlay.grid
        return np.empty(0, np.int64) if grid is None else grid.plane.rows

    def show(self, found: Shown, planned: Planned) -> None:
        """Draw the patches of a plan on the layers that show its image."""
        if self._shown is None or self._shown[1].grid is not planned.grid:
            self.view.forget()
        self._shown = found, planned
        self._enable(len(planned.grid) > 0)
        self._draw()

    def clear(self) -> None:
        """Draw nothing."""
        self._shown = self._plane = None
        self.view.forget()
        self._enable(False)
        self.overlay.clear()

    def follow(self) -> None:
        """Draw anew soon when the sliders move; a grid that was taken away stays away."""
        if not self._soon.isActive():
            self._soon.start()

    def release(self) -> None:
        """Let go of the viewer and of what runs."""
        self._shown = self._plane = None
        self._soon.stop()
        self.clicks.disconnect()
        self.overlay.disconnect()
        self.view.pictures.stop()
        self.contact.pictures.stop()
        self.contact.forget()

    def _follow(self) -> None:
        self._soon.stop()
        if self.overlay.is_shown:
            self._draw()

    def _draw(self) -> None:
        """Draw the patches of the plane that the sliders show."""
        if self._shown is None:
            return
        found, planned = self._shown
        image = found.layers[-1]
        at = plane_of(self._viewer, image, planned.shown)
        if self._plane is None or not self._plane.is_of(planned, at):
            self._plane = PlaneOf.find(planned, at)
        picked = None
        if self.view.row is not None:
            y, x = planned.grid.start[self.view.row, -2:].tolist()
            picked = y, x
        self.overlay.draw(Grid(self._plane.plane, planned.step, image), picked)

    @property
    def drawn(self) -> Drawn | None:
        """What is drawn, None for nothing."""
        if self._soon.isActive():
            self._follow()
        grid = self.overlay.grid
        if self._shown is None or grid is None:
            return None
        planned = self._shown[1]
        return Drawn(planned, grid, *plane_of(self._viewer, grid.image, planned.shown))

    @property
    def middle(self) -> tuple[float, float] | None:
        """The middle of what is in view, YX in pixels of the image."""
        if (grid := self.overlay.grid) is None:
            return None
        (top, left), (bottom, right) = view_of(self._viewer, grid.image)
        return (top + bottom) / 2, (left + right) / 2

    def frame(self, row: int) -> None:
        """Frame a patch, bring it into sight and show it alone; the keys go to it."""
        self._show_patch(row)
        if (drawn := self.drawn) is not None:
            bring_into_view(self._viewer, drawn.grid.image, *_place(drawn, row))
            self.view.setFocus()

    def _show_patch(self, row: int | None) -> None:
        if self._shown is None or (drawn := self.drawn) is None:
            return
        if row is None:
            self.view.forget()
        else:
            channels = _channels(self._shown[0], drawn.planned)
            self.view.show_patch(drawn.planned, row, channels, drawn.depth)
        self._draw()

    def _pick(self, position: tuple[float, ...]) -> None:
        """Frame the patch that is clicked and show it alone; beside the patches, none."""
        if (grid := self.overlay.grid) is not None:
            self._show_patch(grid.plane.at(*point_on(grid.image, position)))

    def _pick_middle(self) -> None:
        drawn, middle = self.drawn, self.middle
        if drawn is None or middle is None:
            return
        if (row := nearest_patch(drawn.grid.plane, *middle)) is not None:
            self.frame(row)

    def _step(self, right: int, down: int) -> None:
        drawn, row = self.drawn, self.view.row
        if drawn is None or row is None:
            return
        start, _ = _place(drawn, row)
        if (other := neighbour_patch(drawn.grid.plane, start, right, down)) is not None:
            self.frame(other)

    def _zoom(self) -> None:
        drawn, row = self.drawn, self.view.row
        if drawn is not None and row is not None:
            zoom_to(self._viewer, drawn.grid.image, *_place(drawn, row))

    def _close(self) -> None:
        self._show_patch(None)
        self.pick_button.setFocus()

    def _enable(self, is_there: bool) -> None:
        self.pick_button.setEnabled(is_there)
        self.sheet_button.setEnabled(is_there)

    def _show_sheet(self) -> None:
        if self._shown is not None:
            found, planned = self._shown
            self.contact.show_sample(planned, _channels(found, planned))


def _row(*buttons: QPushButton) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for button in buttons:
        layout.addWidget(button)
    return row


def _place(drawn: Drawn, row: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give start and size of a patch, YX."""
    y, x = drawn.planned.grid.start[row, -2:].tolist()
    return (y, x), drawn.grid.plane.size


def _channels(found: Shown, planned: Planned) -> list[Channel]:
    """Give the channels of a patch as the image shows them."""
    info = DESCRIPTIONS.latest(str(found.path), found.scene) or planned.shown
    chosen = channel_indices(info.channels, planned.state.recipe.channels)
    channels = channels_of(found, info)
    return [channels[i] for i in chosen]
