"""PNG files as masks; as images, PNGs lack what a source needs, such as a pixel size."""

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError


def is_png(path: str) -> bool:
    """Return whether a path has the suffix of a PNG file."""
    return path.lower().endswith(".png")


def read_png_mask(path: str) -> NDArray[np.bool_]:
    """Return which pixels YX of a PNG file are neither black nor transparent.

    Raises
    ------
    UnreadableFileError
        If it is damaged or no PNG file.
    """
    try:
        pixels = np.atleast_3d(imagecodecs.png_decode(Path(path).read_bytes()))
    except (ValueError, RuntimeError) as error:
        raise UnreadableFileError(f"{path}: it can't be read as PNG: {error}.") from error
    has_alpha = pixels.shape[2] in (2, 4)
    colors = pixels[..., :-1] if has_alpha else pixels
    mask = np.asarray((colors != 0).any(axis=2))
    return mask & (pixels[..., -1] != 0) if has_alpha else mask
