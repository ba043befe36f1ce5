"""Patches that are placed on the image one by one, by clicks and by keys."""

from collections.abc import Sequence

import numpy as np

from napari_patchset.patching.strategies import FixedPatch
from napari_patchset.plugin.canvas.preview import Drawn, PreviewControl
from napari_patchset.plugin.form.strategy import StrategySection
from napari_patchset.plugin.layers.shown import point_on
from napari_patchset.plugin.planning import Planned

Places = tuple[FixedPatch, ...]

_STEPS = 4
"""By what part of its size a patch is moved."""


class PlaceControl:
    """Place patches, move them and take them away, where they are chosen so.

    Parameters
    ----------
    preview : PreviewControl
        Where it is clicked, and which patch is framed.
    strategy : StrategyPart
        What holds the patches.
    """

    def __init__(self, preview: PreviewControl, strategy: StrategySection) -> None:
        self._preview, self._strategy = preview, strategy
        self._wanted: FixedPatch | None = None
        preview.clicks.clicked.connect(self._click)
        preview.view.nudged.connect(self._nudge)
        preview.view.removed.connect(self._remove)
        strategy.place.changed.connect(self._add)

    def follow(self, planned: Planned) -> None:
        """Frame in a new plan the patch that was placed or moved by a key."""
        place, self._wanted = self._wanted, None
        if place is not None and (row := _row_of(planned, place)) is not None:
            self._preview.frame(row)

    @property
    def _drawn(self) -> Drawn | None:
        """What is drawn, None where patches are chosen otherwise."""
        return self._preview.drawn if self._strategy.kind.value == "fixed" else None

    @property
    def _framed(self) -> FixedPatch | None:
        drawn, row = self._drawn, self._preview.view.row
        return _place_of(drawn.planned, row) if drawn is not None and row is not None else None

    def _click(self, position: tuple[float, ...]) -> None:
        """Place a patch around a point, or take away the one that is there."""
        if (drawn := self._drawn) is None:
            return
        at = point_on(drawn.grid.image, position)
        if (row := drawn.grid.plane.at(*at)) is not None:
            self._replace(_place_of(drawn.planned, row))
        else:
            self._strategy.set_places((*self._strategy.patches, _around(drawn, at)))

    def _add(self) -> None:
        """Place a patch in the middle of the view."""
        drawn, middle = self._drawn, self._preview.middle
        if drawn is not None and middle is not None:
            self._wanted = place = _around(drawn, middle)
            others = tuple(p for p in self._strategy.patches if p != place)
            self._strategy.set_places((*others, place))

    def _nudge(self, right: int, down: int, little: bool) -> None:
        drawn, place = self._drawn, self._framed
        if drawn is None or place is None:
            return
        size, shape = drawn.planned.grid.size, drawn.planned.shown.spatial_shape
        step = [1 if little else max(1, n // _STEPS) for n in size[-2:]]
        y, x = place.start[-2] + down * step[0], place.start[-1] + right * step[1]
        start = _inside((*place.start[:-2], y, x), size, shape)
        self._wanted = place.model_copy(update={"start": start})
        self._replace(place, self._wanted)

    def _remove(self) -> None:
        if (place := self._framed) is not None:
            self._replace(place)

    def _replace(self, gone: FixedPatch, *come: FixedPatch) -> None:
        others = (place for place in self._strategy.patches if place not in (gone, *come))
        self._strategy.set_places((*others, *come))


def _place_of(planned: Planned, row: int) -> FixedPatch:
    info, spec = planned.shown, planned.grid[row]
    return FixedPatch(source=info.key, scene=info.scene, sample=spec.sample, start=spec.start)


def _row_of(planned: Planned, place: FixedPatch) -> int | None:
    grid = planned.grid
    is_there = (grid.source_index == planned.state.shown) & (grid.sample == place.sample)
    found = np.flatnonzero(is_there & (grid.start == place.start).all(axis=1))
    return int(found[0]) if len(found) else None


def _around(drawn: Drawn, at: tuple[float, float]) -> FixedPatch:
    """Place a patch around a point of the plane that is shown."""
    info, size = drawn.planned.shown, drawn.planned.grid.size
    centre = (drawn.depth, *at)[-len(size) :]
    start = [round(c - n / 2) for c, n in zip(centre, size, strict=True)]
    inside = _inside(start, size, info.spatial_shape)
    return FixedPatch(source=info.key, scene=info.scene, sample=drawn.sample, start=inside)


def _inside(start: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Move a patch back that reaches past the image."""
    axes = zip(start, size, shape, strict=True)
    return tuple(min(max(s, 0), max(n - p, 0)) for s, p, n in axes)
