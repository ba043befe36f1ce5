"""The first series of a TIFF as one array, as `tifffile.imread` gives it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.stacks.tiff.image import open_series


def read_tiff(path: Path) -> NDArray[Any]:
    """Read the whole of the first series, in native byte order.

    Raises
    ------
    UnreadableFileError
        If the file is damaged or no TIFF.
    """
    with open_series(Path(path).absolute(), plain=True) as series:
        data: NDArray[Any] = series[0].pages.asarray()
        return data.astype(data.dtype.newbyteorder("="), copy=False)


def describe_tiff(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Give shape and type of what `read_tiff` would read."""
    with open_series(Path(path).absolute(), plain=True) as series:
        pages = series[0].pages
        return pages.shape, pages.dtype.newbyteorder("=")
