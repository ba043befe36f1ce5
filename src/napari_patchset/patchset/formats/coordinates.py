"""coordinates: the table and the manifest, for whoever cuts the patches from the sources."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from napari_patchset.patchset.formats.base import PatchStore, SetFormat
from napari_patchset.patchset.layout import ArrayLayout


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
