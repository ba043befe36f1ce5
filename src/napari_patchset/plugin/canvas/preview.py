"""The preview: the patch grid on the image, the patch that is picked, and the contact sheet.

`PreviewControl.show` takes a plan and the layers that show its image, and keeps the overlay on the
plane that the sliders show. A click or a key picks a patch, which is framed there and shown alone.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_patchset.plugin.canvas.overlay import GridOverlay, PlaneGrid
from napari_patchset.plugin.gallery.contact_sheet import ContactSheet
from napari_patchset.plugin.gallery.picked_patch import PatchView
from napari_patchset.plugin.layers.viewer_images import (
    YX,
    SceneLayers,
    bring_into_view,
    channels_of,
    plane_of,
    point_on,
    view_of,
    zoom_to,
)
from napari_patchset.plugin.navigation import nearest_patch, neighbour_patch
from napari_patchset.plugin.overrides import source_ref
from napari_patchset.plugin.planning import PlanPreview
from napari_patchset.plugin.state import DESCRIPTIONS
from napari_patchset.plugin.worker import single_shot_timer
from napari_patchset.source import channel_indices
from napari_patchset.stacks.metadata import Channel

_WAIT_MS = 30
"""Shortest time between redraws while sliders move."""

_STILL = 4
"""A mouse that moved fewer pixels than this did not drag."""


class Clicks:
    """Emit the position of clicks on the image, in world coordinates; drags are ignored."""

    clicked = Signal(tuple)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        viewer.mouse_drag_callbacks.append(self._on_press)

    def release(self) -> None:
        """Disconnect."""
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Viewer, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        # A layer in a drawing mode handles the click itself.
        if event.button != 1 or str(getattr(active, "mode", "pan_zoom")) != "pan_zoom":
            return
        began = event.pos
        yield
        while event.type == "mouse_move":
            yield
        if max(abs(event.pos - began)) < _STILL:
            self.clicked.emit(tuple(event.position))


class PreviewControl:
    """Draw the planned patches, and show those that the user picks.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    window : QWidget
        The owner of the contact sheet's window.
    """

    def __init__(self, viewer: Viewer, window: QWidget) -> None:
        self._viewer = viewer
        self._shown: tuple[SceneLayers, PlanPreview] | None = None
        self._soon = single_shot_timer(window, self._follow, _WAIT_MS)
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
        return np.empty(0, np.int64) if grid is None else grid.patches.rows

    @property
    def drawn(self) -> PlaneGrid | None:
        """The grid that is drawn, None for none; first updated to the sliders."""
        if self._soon.isActive():
            self._follow()
        return self.overlay.grid

    @property
    def middle(self) -> tuple[float, float] | None:
        """The middle of the view, YX in pixels of the image; None if nothing is drawn."""
        if (grid := self.overlay.grid) is None:
            return None
        (top, left), (bottom, right) = view_of(self._viewer, grid.image)
        return (top + bottom) / 2, (left + right) / 2

    def show(self, shown: SceneLayers, planned: PlanPreview) -> None:
        """Draw the patches of a plan on the layers that show its image."""
        if self._shown is None or self._shown[1].grid is not planned.grid:
            self.view.clear()
        self._shown = shown, planned
        self._enable(len(planned.grid) > 0)
        self._draw()

    def clear(self) -> None:
        """Draw nothing."""
        self._shown = None
        self.view.clear()
        self._enable(False)
        self.overlay.clear()

    def follow(self) -> None:
        """Redraw soon when the sliders move; a grid that the user removed is not drawn again."""
        if not self._soon.isActive():
            self._soon.start()

    def release(self) -> None:
        """Release the viewer and stop the workers."""
        self._shown = None
        self._soon.stop()
        self.clicks.release()
        self.overlay.release()
        self.view.pictures.release()
        self.contact.release()

    def frame(self, row: int) -> None:
        """Frame a patch, scroll to it, show it alone and give it the keyboard focus."""
        self._show_patch(row)
        if (grid := self.drawn) is not None:
            start = _start_of(grid.planned, row)
            bring_into_view(self._viewer, grid.image, start, grid.patches.size)
            self.view.setFocus()

    def _follow(self) -> None:
        self._soon.stop()
        if self.overlay.is_shown:
            self._draw()

    def _draw(self) -> None:
        """Draw the patches of the plane that the sliders show."""
        if self._shown is None:
            return
        shown, planned = self._shown
        image, row = shown.layers[-1], self.view.row
        plane = plane_of(self._viewer, image, planned.shown_source)
        grid = PlaneGrid.find(planned, image, plane, self.overlay.grid)
        self.overlay.draw(grid, None if row is None else _start_of(planned, row))

    def _show_patch(self, row: int | None) -> None:
        if self._shown is None or (grid := self.drawn) is None:
            return
        if row is None:
            self.view.clear()
        else:
            channels = _channels(self._shown[0], grid.planned)
            self.view.show_patch(grid.planned, row, channels, grid.depth)
        self._draw()

    def _pick(self, position: tuple[float, ...]) -> None:
        """Frame the patch that is clicked and show it alone; outside of all patches, none."""
        if (grid := self.overlay.grid) is not None:
            self._show_patch(grid.patches.row_at(*point_on(grid.image, position)))

    def _pick_middle(self) -> None:
        grid, middle = self.drawn, self.middle
        if grid is None or middle is None:
            return
        if (row := nearest_patch(grid.patches, *middle)) is not None:
            self.frame(row)

    def _step(self, right: int, down: int) -> None:
        grid, row = self.drawn, self.view.row
        if grid is None or row is None:
            return
        start = _start_of(grid.planned, row)
        if (other := neighbour_patch(grid.patches, start, right, down)) is not None:
            self.frame(other)

    def _zoom(self) -> None:
        grid, row = self.drawn, self.view.row
        if grid is not None and row is not None:
            start = _start_of(grid.planned, row)
            zoom_to(self._viewer, grid.image, start, grid.patches.size)

    def _close(self) -> None:
        self._show_patch(None)
        self.pick_button.setFocus()

    def _enable(self, has_patches: bool) -> None:
        self.pick_button.setEnabled(has_patches)
        self.sheet_button.setEnabled(has_patches)

    def _show_sheet(self) -> None:
        if self._shown is not None:
            shown, planned = self._shown
            self.contact.show_sample(planned, _channels(shown, planned))


def _row(*buttons: QPushButton) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for button in buttons:
        layout.addWidget(button)
    return row


def _start_of(planned: PlanPreview, row: int) -> YX:
    y, x = planned.shown_source.to_file(planned.grid.start[row, -2:].tolist())
    return y, x


def _channels(shown: SceneLayers, planned: PlanPreview) -> list[Channel]:
    """Return the channels of a patch in the colours and contrast of the image."""
    info = DESCRIPTIONS.latest(source_ref(shown.path, shown.scene)) or planned.shown_source
    chosen = channel_indices(info.channels, planned.state.recipe.channels)
    channels = channels_of(shown, info)
    return [channels[i] for i in chosen]
