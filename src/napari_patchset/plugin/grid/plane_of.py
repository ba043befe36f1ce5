"""The patches of the plane that the sliders show, found once among all of a plan."""

from typing import NamedTuple

from napari_patchset.plugin.planning.planned import Planned
from napari_patchset.preview import Plane


class PlaneOf(NamedTuple):
    """The patches of one sample and depth of a plan, found once."""

    planned: Planned
    at: tuple[int, int]
    plane: Plane

    @classmethod
    def find(cls, planned: Planned, at: tuple[int, int]) -> "PlaneOf":
        """Look among all patches of a plan."""
        plane = Plane.of(planned.grid, planned.category, planned.state.shown, *at)
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
