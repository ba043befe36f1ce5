"""Patches that are placed by clicking on the image."""

from collections.abc import Sequence

from napari_patchset.patching.strategies import Place
from napari_patchset.plugin.planning import Planned
from napari_patchset.preview import Plane

Places = tuple[Place, ...]


def with_click(
    places: Places, planned: Planned, plane: Plane, at: tuple[float, float], depth: int, sample: int
) -> Places:
    """Place a patch around a point, or take away the one that is there.

    Parameters
    ----------
    places : tuple of Place
        The patches so far.
    planned : Planned
        What they come to.
    plane : Plane
        Those that are shown.
    at : tuple of float
        The point, YX in pixels of the image.
    depth, sample : int
        The plane that is shown.
    """
    info, row = planned.shown, plane.at(*at)
    if row is not None:
        spec = planned.grid[row]
        gone = Place(source=info.key, scene=info.scene, sample=spec.sample, start=spec.start)
        return tuple(place for place in places if place != gone)
    centre = (depth, *at)[-len(planned.grid.size) :]
    start = _around(centre, planned.grid.size, info.spatial_shape)
    return (*places, Place(source=info.key, scene=info.scene, sample=sample, start=start))


def _around(centre: Sequence[float], size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Give the start of a patch around a point, moved back where it would reach past the image."""
    axes = zip(centre, size, shape, strict=True)
    return tuple(min(max(round(c - p / 2), 0), max(n - p, 0)) for c, p, n in axes)
