"""Patches that are placed on the image one by one, by clicks and by keys."""

from collections.abc import Sequence

from napari_patchset.patching.strategies import Fixed, FixedPatch
from napari_patchset.plugin.canvas.plane_grid import PlaneGrid
from napari_patchset.plugin.canvas.preview import PreviewControl
from napari_patchset.plugin.form.strategy import StrategySection
from napari_patchset.plugin.layers.viewer_images import point_on
from napari_patchset.plugin.plan_preview import PlanPreview

_STEPS = 4
"""Fraction of its size by which a key moves a patch."""


class PlaceControl:
    """Place, move and remove patches, with the strategy that places each by hand.

    Parameters
    ----------
    preview : PreviewControl
        The preview, which reports clicks and frames the patch.
    strategy : StrategySection
        The section that holds the patches.
    """

    def __init__(self, preview: PreviewControl, strategy: StrategySection) -> None:
        self._preview, self._strategy = preview, strategy
        self._to_frame: FixedPatch | None = None
        self._is_moving = False
        preview.pointer.clicked.connect(self._click)
        preview.view.nudged.connect(self._nudge)
        preview.view.removed.connect(self._remove)
        strategy.place.changed.connect(self._add)

    def follow(self, planned: PlanPreview) -> None:
        """Frame in a new plan the patch that was placed or moved by a key."""
        patch, self._to_frame = self._to_frame, None
        if patch is not None and (row := _row_of(planned, patch)) is not None:
            self._preview.frame(row, self._is_moving)

    @property
    def _grid(self) -> PlaneGrid | None:
        """The grid that is drawn, None with another strategy."""
        return self._preview.drawn if self._strategy.kind.value == "fixed" else None

    @property
    def _framed(self) -> FixedPatch | None:
        """The patch that keys move; one that was just moved is not planned yet."""
        if self._to_frame in self._strategy.patches:
            return self._to_frame
        grid, row = self._grid, self._preview.view.row
        return _patch_at(grid.planned, row) if grid is not None and row is not None else None

    def _click(self, position: tuple[float, ...], is_shift: bool) -> None:
        """Place a patch around a point, on others too; with Shift, the preview picks the one there.

        The view stays, so that the next click goes where it is aimed.
        """
        if (grid := self._grid) is not None and not is_shift:
            self._place(grid, point_on(grid.image, position), is_moving=False)

    def _add(self) -> None:
        """Place a patch in the middle of the view."""
        grid, middle = self._grid, self._preview.middle
        if grid is not None and middle is not None:
            self._place(grid, middle)

    def _place(self, grid: PlaneGrid, point: tuple[float, float], is_moving: bool = True) -> None:
        self._to_frame, self._is_moving = _patch_around(grid, point), is_moving
        self._replace(self._to_frame, self._to_frame)

    def _nudge(self, right: int, down: int, is_fine: bool) -> None:
        grid, patch = self._grid, self._framed
        if grid is None or patch is None:
            return
        shown = grid.planned.shown_source
        size, shape = (shown.to_file(n) for n in (grid.planned.grid.size, shown.spatial_shape))
        step = [1 if is_fine else max(1, n // _STEPS) for n in size[-2:]]
        y, x = patch.start[-2] + down * step[0], patch.start[-1] + right * step[1]
        start = _inside((*patch.start[:-2], y, x), size, shape)
        self._to_frame, self._is_moving = patch.model_copy(update={"start": start}), True
        self._replace(patch, self._to_frame)

    def _remove(self) -> None:
        if (patch := self._framed) is not None:
            self._replace(patch)

    def _replace(self, old: FixedPatch, *new: FixedPatch) -> None:
        others = (patch for patch in self._strategy.patches if patch not in (old, *new))
        self._strategy.change_places((*others, *new))


def _patch_at(planned: PlanPreview, row: int) -> FixedPatch:
    info, spec = planned.shown_source, planned.grid[row]
    strategy = planned.state.recipe.strategy
    if info.ratio is not None and isinstance(strategy, Fixed):
        strategy = strategy.in_pixels(info.pixel_size, info.name)
        for patch in strategy.patches:
            is_here = (patch.source, patch.scene, patch.sample) == (
                info.key,
                info.scene,
                spec.sample,
            )
            if is_here and strategy.start_in(patch, info) == spec.start:
                return patch
    return FixedPatch(source=info.key, scene=info.scene, sample=spec.sample, start=spec.start)


def _row_of(planned: PlanPreview, patch: FixedPatch) -> int | None:
    start, info, strategy = patch.start, planned.shown_source, planned.state.recipe.strategy
    if info.ratio is not None and isinstance(strategy, Fixed):
        start = strategy.in_pixels(info.pixel_size, info.name).start_in(patch, info)
    return planned.row_of(patch.sample, start)


def _patch_around(grid: PlaneGrid, point: tuple[float, float]) -> FixedPatch:
    """Place a patch around a point of the plane that is shown, YX."""
    info = grid.planned.shown_source
    size = info.to_file(grid.planned.grid.size)
    centre = (grid.depth, *point)[-len(size) :]
    start = [round(c - n / 2) for c, n in zip(centre, size, strict=True)]
    inside = _inside(start, size, info.to_file(info.spatial_shape))
    return FixedPatch(source=info.key, scene=info.scene, sample=grid.sample, start=inside)


def _inside(start: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Move a patch back that reaches past the image."""
    axes = zip(start, size, shape, strict=True)
    return tuple(min(max(s, 0), max(n - p, 0)) for s, p, n in axes)
