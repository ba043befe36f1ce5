"""The patches of a plan on the plane that the sliders show."""

from typing import NamedTuple

from napari.layers import Image

from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.preview.outlines import PlanePatches


class PlaneGrid(NamedTuple):
    """The patches of a plan on the plane of an image that the sliders show.

    Attributes
    ----------
    planned : PlanPreview
        The plan.
    image : Image
        The layer that shows its image.
    sample, depth : int
        The plane, as patches count them.
    patches : PlanePatches
        The patches there.
    """

    planned: PlanPreview
    image: Image
    sample: int
    depth: int
    patches: PlanePatches

    @classmethod
    def find(
        cls, planned: PlanPreview, image: Image, plane: tuple[int, int], before: "PlaneGrid | None"
    ) -> "PlaneGrid":
        """Select the patches of a plane, reusing an earlier selection."""
        if before is not None and before._has_patches_of(planned, plane):
            patches = before.patches
        else:
            patches = PlanePatches.from_grid(
                planned.grid, planned.drawn.category, planned.state.shown_index, *plane
            ).scaled(planned.shown_source.ratio)
        return cls(planned, image, *plane, patches)

    def volumes(self) -> PlanePatches:
        """Return the patches of all planes of the sample."""
        planned, shown = self.planned, self.planned.state.shown_index
        patches = PlanePatches.from_grid(planned.grid, planned.drawn.category, shown, self.sample)
        return patches.scaled(planned.shown_source.ratio)

    def _has_patches_of(self, planned: PlanPreview, plane: tuple[int, int]) -> bool:
        return (
            self.planned.grid is planned.grid
            and self.planned.drawn.category is planned.drawn.category
            and self.planned.state.shown_index == planned.state.shown_index
            and (self.sample, self.depth) == plane
        )
