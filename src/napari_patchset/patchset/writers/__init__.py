"""The one table of formats that a patch set can have.

coordinates: the table and the manifest, for whoever cuts the patches from the sources.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.writers.base import PatchStore, SetFormat
from napari_patchset.patchset.writers.npz import NpzSet
from napari_patchset.patchset.writers.tiff import TiffSet
from napari_patchset.patchset.writers.zarr import ZarrSet


class CoordinatesSet(SetFormat):
    """No pixels: a set of this format has no arrays."""

    has_pixels: ClassVar[bool] = False
    unit_pattern: ClassVar[re.Pattern[str]] = re.compile("(?!)")  # there is no such file

    def unit_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Give nothing."""
        return ()

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write nothing."""

    def open(self, root: Path, array: ArrayLayout) -> PatchStore:
        """Never called: there is no array."""
        raise NotImplementedError


FORMATS: Mapping[str, SetFormat] = {
    "zarr": ZarrSet(),
    "tiff": TiffSet(),
    "npz": NpzSet(),
    "coordinates": CoordinatesSet(),
}
"""By the name that a plan gives; a further format is a class and a line here."""
