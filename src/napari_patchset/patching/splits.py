"""Split: which patches train and which validate, without a pixel in common."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset.model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.source import SourceInfo

SPLITS = ("train", "val")
"""The names of the splits, by code."""

BORDER = -1
"""The code of a patch that lies in both, and so in neither."""


class Split(Frozen):
    """Part patches into training and validation ones, so that they share no pixel.

    Parameters
    ----------
    val : float
        The share of patches that validate, above 0 and below 1.
    by : {"auto", "file", "scene", "block"}
        What is kept together.
    seed : int
        Another seed, another choice.
    """

    val: float = Field(gt=0, lt=1)
    by: Literal["auto", "file", "scene", "block"] = "auto"
    seed: int = 0

    def assign(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> NDArray[np.int8]:
        """Give each patch the code of its split, or `BORDER`."""
        raise NotImplementedError
