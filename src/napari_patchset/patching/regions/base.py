"""What all regions share: the source that they lie in, and the area that they leave of a plane.

Coordinates are level-0 pixels from the image's upper left corner: pixel i reaches from i to i + 1.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.model import Frozen
from napari_patchset.source import Rect, SceneId, SourceInfo

Mask = NDArray[np.bool_]
Masks = Mapping[str, Mask]
"""The pixels of masks, YX, by their digest."""


class Area(Protocol):
    """The part of a plane that a region leaves."""

    is_box: ClassVar[bool]
    """Whether every patch inside of the bounds lies inside."""

    @property
    def bounds(self) -> Rect:
        """The smallest rectangle that holds every patch inside."""

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> Mask:
        """Say which patches lie wholly inside, from their starts (n, YX) and their size."""


class SourceRegion(Frozen):
    """Belong to one source and scene, or to every one where they are None."""

    source: str | None = None
    scene: SceneId | None = None

    def is_of(self, source: SourceInfo) -> bool:
        """Whether the region lies in a source."""
        return self.source in (None, source.key) and self.scene in (None, source.scene)
