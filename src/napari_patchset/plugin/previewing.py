"""The preview at work: the grid on the image, the patch that is clicked, and the contact sheet."""

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtWidgets import QPushButton, QWidget

from napari_patchset.plugin.contact import ContactSheet
from napari_patchset.plugin.overlay import Grid, GridOverlay
from napari_patchset.plugin.picking import Clicks, PatchView
from napari_patchset.plugin.placing import Places, with_click
from napari_patchset.plugin.planning import Planned
from napari_patchset.plugin.shown import Shown, channels_of, plane_of, point_on
from napari_patchset.plugin.state import describe_scene
from napari_patchset.preview import Plane
from napari_patchset.source import channel_indices
from napari_patchset.stacks.metadata import Channel


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
        self.overlay, self.clicks = GridOverlay(viewer, window), Clicks(viewer)
        self.view, self.contact = PatchView(), ContactSheet(window)
        self.sheet_button = QPushButton("Contact sheet…")
        self.sheet_button.setToolTip(
            "Show some of the patches at full resolution, once there are any."
        )
        self.clicks.clicked.connect(self._pick)
        self.sheet_button.clicked.connect(self._show_sheet)

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
        self.sheet_button.setEnabled(len(planned.grid) > 0)
        self._draw()

    def clear(self) -> None:
        """Draw nothing."""
        self._shown = None
        self.view.forget()
        self.sheet_button.setEnabled(False)
        self.overlay.clear()

    def follow(self) -> None:
        """Draw anew when the sliders move; a grid that was taken away stays away."""
        if self.overlay.is_shown:
            self._draw()

    def release(self) -> None:
        """Let go of the viewer and of what runs."""
        self._shown = None
        self.clicks.disconnect()
        self.overlay.disconnect()
        self.view.pictures.stop()
        self.contact.pictures.stop()
        self.contact.forget()

    def _draw(self) -> None:
        """Draw the patches of the plane that the sliders show."""
        if self._shown is None:
            return
        found, planned = self._shown
        image = found.layers[-1]
        at = plane_of(self._viewer, image, planned.shown)
        plane = Plane.of(planned.grid, planned.category, planned.state.shown, *at)
        picked = None
        if self.view.row is not None:
            y, x = planned.grid.start[self.view.row, -2:].tolist()
            picked = y, x
        self.overlay.draw(Grid(plane, planned.step, image), picked)

    def with_click(self, places: Places, position: tuple[float, ...]) -> Places:
        """Place a patch where the image is clicked, or take away the one that is there."""
        grid = self.overlay.grid
        if self._shown is None or grid is None:
            return places
        planned, at = self._shown[1], point_on(grid.image, position)
        sample, depth = plane_of(self._viewer, grid.image, planned.shown)
        return with_click(places, planned, grid.plane, at, depth, sample)

    def _pick(self, position: tuple[float, ...]) -> None:
        """Frame the patch that is clicked and show it alone; beside the patches, none."""
        grid = self.overlay.grid
        if self._shown is None or grid is None:
            return
        found, planned = self._shown
        row = grid.plane.at(*point_on(grid.image, position))
        if row is None:
            self.view.forget()
        else:
            _, depth = plane_of(self._viewer, grid.image, planned.shown)
            self.view.show_patch(planned, row, _channels(found, planned), depth)
        self._draw()

    def _show_sheet(self) -> None:
        if self._shown is not None:
            found, planned = self._shown
            self.contact.show_sample(planned, _channels(found, planned))


def _channels(found: Shown, planned: Planned) -> list[Channel]:
    """Give the channels of a patch as the image shows them."""
    info = describe_scene(str(found.path), found.scene)
    chosen = channel_indices(info.channels, planned.state.recipe.channels)
    channels = channels_of(found, info)
    return [channels[i] for i in chosen]
