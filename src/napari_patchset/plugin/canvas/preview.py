"""The preview: the patch grid on the image, the patch under the mouse, and the one that is picked.

`PreviewControl.show` takes a plan and the layers that show its image, and keeps the overlay on the
plane that the sliders show. The patch under the mouse is highlighted and described in the status
bar. A click or a key picks a patch, which is framed there and shown alone.
"""

from pathlib import Path

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_patchset.channels import channel_indices
from napari_patchset.plugin.canvas.overlay import GridOverlay
from napari_patchset.plugin.canvas.plane_grid import PlaneGrid
from napari_patchset.plugin.canvas.pointer import Pointer, StatusLine
from napari_patchset.plugin.canvas.summary import plane_summary
from napari_patchset.plugin.captions import patch_lines
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.gallery.gallery import Gallery
from napari_patchset.plugin.gallery.patches import PlannedPatches
from napari_patchset.plugin.gallery.picked_patch import PatchView
from napari_patchset.plugin.layers.viewer_images import (
    YX,
    SceneLayers,
    bring_into_view,
    channels_of,
    fit_cropped,
    plane_of,
    point_on,
    show_plane,
    view_of,
    zoom_to,
)
from napari_patchset.plugin.napari_compat import show_scale_bar
from napari_patchset.plugin.navigation import nearest_patch, neighbour_patch
from napari_patchset.plugin.overrides import source_ref
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.worker import single_shot_timer
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.metadata import Channel

_WAIT_MS = 30
"""Shortest time between redraws while sliders move."""

_HOVER_MS = 10
"""Shortest time between highlights while the mouse moves."""

_EXAMPLE = "Framed: an example of one patch; tinted: what it shares with its neighbours"


_TOO_SMALL = "Patches are too small to draw at this zoom; zoom in."


class PreviewControl:
    """Draw the planned patches, and show those that the user points at or picks.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    window : QWidget
        The owner of the gallery's window.
    """

    scene_wanted = Signal(object)
    """The scene of the shown file that has a patch of the gallery."""

    def __init__(self, viewer: Viewer, window: QWidget) -> None:
        self._viewer = viewer
        self._shown: tuple[SceneLayers, PlanPreview] | None = None
        self._soon = single_shot_timer(window, self._follow, _WAIT_MS)
        self._hover_soon = single_shot_timer(window, self._hover, _HOVER_MS)
        self._mouse: tuple[float, ...] = ()
        self._wanted: int | None = None
        self._is_outlined = True
        self._geometry: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        """The size of the patches that were drawn last, and the distance of neighbours."""
        self._explains_example = False
        """Whether that is what was changed last, which the framed example shows."""
        self._has_scale_bar = False
        self._fitted = set[Path]()
        """Images that were shown whole once."""
        self.overlay, self.pointer = GridOverlay(viewer, window), Pointer(viewer)
        self.status = StatusLine(viewer)
        self.view, self.gallery = PatchView(), Gallery(window)
        self.plane = QLabel()
        self.gallery_button = QPushButton("Gallery…")
        self.gallery_button.setToolTip(
            "Show the patches side by side: sort them, look at those that are rejected, and keep "
            "or reject some by hand."
        )
        self.pick_button = QPushButton("Show a patch")
        self.pick_button.setToolTip(
            "Frame the patch in the middle of the view and show it alone; the arrow keys then step "
            "from patch to patch. Or click a patch on the image."
        )
        self.reject_button = QPushButton("Next rejected")
        self.reject_button.setToolTip("Go to the next patch that is not exported, and show why.")
        self.buttons = _row(self.pick_button, self.gallery_button, self.reject_button)
        self.overlay.outlined.connect(self._on_outlined)
        self.pointer.clicked.connect(self._pick)
        self.pointer.moved.connect(self._on_moved)
        self.pointer.left.connect(self._on_left)
        self.pick_button.clicked.connect(self._pick_middle)
        self.gallery_button.clicked.connect(self._show_gallery)
        self.gallery.picked.connect(self._go_to)
        self.gallery.place_picked.connect(self._go_to_place)
        self.reject_button.clicked.connect(self._next_rejected)
        self.view.stepped.connect(self._step)
        self.view.zoomed.connect(self._zoom)
        self.view.closed.connect(self._close)
        self._enable(None)

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
        if self._shown is None or self._shown[1].state != planned.state:
            geometry = planned.grid.size, planned.steps
            self._explains_example = geometry != self._geometry
            self._geometry = geometry
        is_new = shown.path not in self._fitted
        self._fitted.add(shown.path)
        self._shown = shown, planned
        self.view.describe(planned)
        self._enable(planned)
        if not self._has_scale_bar and planned.shown_source.pixel_size.x:
            self._has_scale_bar = True
            show_scale_bar(self._viewer)
        if is_new:
            fit_cropped(self._viewer, shown.layers[-1])
        self._draw()
        if self.gallery.isVisible():
            self.gallery.follow(self._patches(shown, planned))
        if self._wanted is not None:
            self._go_on(planned)

    def clear(self) -> None:
        """Draw nothing."""
        self._shown = None
        self._describe(None, None)
        self.view.clear()
        self._enable(None)
        self.overlay.clear()

    def follow(self) -> None:
        """Redraw soon when the sliders move; a grid that the user removed is not drawn again."""
        if not self._soon.isActive():
            self._soon.start()

    def release(self) -> None:
        """Release the viewer and stop the workers."""
        self._shown = None
        self._soon.stop()
        self._hover_soon.stop()
        self.status.release()
        self.pointer.release()
        self.overlay.release()
        self.view.pictures.release()
        self.gallery.release()

    def frame(self, row: int, is_moving: bool = True, has_focus: bool = True) -> None:
        """Frame a patch of the shown image, show it alone and give it the keyboard focus.

        Sliders and view move to it unless `is_moving` is False.
        """
        if (grid := self.drawn) is None:
            return
        if is_moving and grid.patches.box_of(row) is None:
            self._show_plane_of(grid, row)
        self._show_patch(row)
        if is_moving and (grid := self.drawn) is not None:
            start = _start_of(grid.planned, row)
            bring_into_view(self._viewer, grid.image, start, grid.patches.size)
        if has_focus:
            self.view.setFocus()

    def _show_plane_of(self, grid: PlaneGrid, row: int) -> None:
        """Move the sliders to the middle of a patch."""
        spec = grid.planned.grid[row]
        depth = spec.start[0] + spec.size[0] // 2 if len(spec.start) > 2 else 0
        show_plane(self._viewer, grid.image, grid.planned.shown_source, spec.sample, depth)
        self._follow()

    def _follow(self) -> None:
        self._soon.stop()
        if self.overlay.is_shown:
            self._draw()

    def _draw(self) -> None:
        """Draw the patches of the plane that the sliders show."""
        if self._shown is None:
            return
        shown, planned = self._shown
        image = shown.layers[-1]
        plane = plane_of(self._viewer, image, planned.shown_source)
        grid = PlaneGrid.find(planned, image, plane, self.overlay.grid)
        before = self.overlay.grid
        self.overlay.draw(grid, self.view.row)
        if self.overlay.hovered is None:
            self._describe(None, None)
        if not (before and before.planned is planned and before.patches.looks_like(grid.patches)):
            self._summarize_plane()

    def _on_outlined(self, is_outlined: bool) -> None:
        if is_outlined != self._is_outlined:
            self._is_outlined = is_outlined
            self._summarize_plane()

    def _summarize_plane(self) -> None:
        if (grid := self.overlay.grid) is not None:
            text = plane_summary(grid.planned, grid.patches)
            self.plane.setText(text if self._is_outlined else f"{text}. {_TOO_SMALL}")

    def _on_moved(self, position: tuple[float, ...]) -> None:
        self._mouse = position
        self.status.tell("")
        if not self._hover_soon.isActive():
            self._hover_soon.start()

    def _on_left(self) -> None:
        self._hover_soon.stop()
        self.overlay.hover(None)
        self._describe(None, None)

    def _hover(self) -> None:
        """Highlight the patch under the mouse, and describe it in the status bar."""
        grid, row = self.overlay.grid, None
        if grid is not None and self.overlay.is_shown and self._viewer.dims.ndisplay == 2:
            row = grid.patches.row_at(*point_on(grid.image, self._mouse))
            self.overlay.hover(row)
        self._describe(grid, row)

    def _describe(self, grid: PlaneGrid | None, row: int | None) -> None:
        """Describe a patch in the status bar; for none, explain a framed example that is new."""
        text = ""
        if grid is not None and row is not None:
            text = ", ".join(patch_lines(grid.planned, row))
        elif self.overlay.has_example and self._explains_example and self.status.is_idle:
            text = _EXAMPLE
        self.status.describe(text)

    def _show_patch(self, row: int | None) -> None:
        if self._shown is None or (grid := self.drawn) is None:
            return
        if row is None:
            self.view.clear()
        else:
            channels = _channels(self._shown[0], grid.planned)
            self.view.show_patch(grid.planned, row, channels, grid.depth)
        self._draw()

    def _pick(self, position: tuple[float, ...], is_shift: bool) -> None:
        """Frame the patch that is clicked and show it alone; outside of all patches, none.

        Where clicks place patches, Shift is held to pick one.
        """
        grid = self.overlay.grid
        if grid is not None and (is_shift or not grid.planned.is_clicked):
            row = grid.patches.row_at(*point_on(grid.image, position))
            if row is not None and grid.planned.is_clicked:
                self.frame(row, is_moving=False)  # for the keys that move it
            else:
                self._show_patch(row)

    def _pick_middle(self) -> None:
        grid, middle = self.drawn, self.middle
        if grid is None or middle is None:
            return
        if (row := nearest_patch(grid.patches, *middle)) is not None:
            self.frame(row)

    def _next_rejected(self) -> None:
        """Frame the rejected patch of the image that follows the picked one, or the first."""
        if (grid := self.drawn) is None:
            return
        rows = grid.planned.rejected_rows
        if len(rows):
            after = -1 if self.view.row is None else self.view.row
            self.frame(int(rows[np.searchsorted(rows, after, side="right") % len(rows)]))
            self.reject_button.setFocus()

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

    def _enable(self, planned: PlanPreview | None) -> None:
        has_patches = planned is not None and len(planned.grid) > 0
        self.pick_button.setEnabled(has_patches)
        self.gallery_button.setEnabled(has_patches)
        self.plane.setVisible(has_patches)
        self.reject_button.setVisible(planned is not None and len(planned.rejected_rows) > 0)

    def _show_gallery(self) -> None:
        if self._shown is not None:
            self.gallery.show_patches(self._patches(*self._shown))

    def _patches(self, shown: SceneLayers, planned: PlanPreview) -> PlannedPatches:
        return PlannedPatches(planned, _channels(shown, planned))

    def _go_to(self, row: int) -> None:
        """Show the place of a patch of the gallery on the image, in another scene too."""
        if (grid := self.drawn) is None:
            return
        state, index = grid.planned.state, int(grid.planned.grid.source_index[row])
        if index == state.shown_index:
            self.frame(row, has_focus=False)
        elif state.sources[index].path == state.source.path:
            self._wanted = row
            self.scene_wanted.emit(state.sources[index].scene)
        else:
            self.gallery.tell_absent()

    def _go_on(self, planned: PlanPreview) -> None:
        """Show the place that was waiting for its scene."""
        row, self._wanted = self._wanted, None
        if row is None or row >= len(planned.grid):
            return
        if planned.grid.source_index[row] == planned.state.shown_index:
            self.frame(row, has_focus=False)

    def _go_to_place(self, info: SourceInfo, sample: int, start: tuple[int, ...]) -> None:
        """Show the place of a patch of a set, if it was cut from the shown image."""
        grid = self.drawn
        shown = None if grid is None else grid.planned.shown_source
        if grid is None or shown is None or (info.key, info.scene) != (shown.key, shown.scene):
            self.gallery.tell_absent()
            return
        y, x = info.to_file(start)[-2:]
        show_plane(self._viewer, grid.image, info, sample, start[0] if len(start) > 2 else 0)
        bring_into_view(self._viewer, grid.image, (y, x), grid.patches.size)
        self._follow()
        if (row := grid.planned.row_of(sample, start)) is not None and self.drawn is not None:
            self.frame(row, has_focus=False)


def _row(*buttons: QPushButton) -> QWidget:
    """Return buttons in a row."""
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
