"""The formats of a patch set: `FORMATS` lists them by the name that a plan uses.

A further format is a subclass of `SetFormat` (see `base`) and a line in the table.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.manifest import SetIdentity
from napari_patchset.patchset.writers.base import PatchStore, SetFormat
from napari_patchset.patchset.writers.npz import NpzSet
from napari_patchset.patchset.writers.tiff import TiffSet
from napari_patchset.patchset.writers.zarr import ZarrSet


class CoordinatesSet(SetFormat):
    """Table and manifest without pixels, for programs that cut patches from the sources."""

    has_pixels: ClassVar[bool] = False
    shard_pattern: ClassVar[re.Pattern[str]] = re.compile("(?!)")  # matches nothing

    def shard_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Return nothing."""
        return ()

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write nothing."""

    def open(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> PatchStore:
        """Raise NotImplementedError: there are no arrays."""
        raise NotImplementedError


FORMATS: Mapping[str, SetFormat] = {
    "zarr": ZarrSet(),
    "tiff": TiffSet(),
    "npz": NpzSet(),
    "coordinates": CoordinatesSet(),
}
