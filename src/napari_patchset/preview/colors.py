"""What becomes of a patch, as a person sees it: three categories and their colours."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.verdicts import Verdicts


class PatchCategory(IntEnum):
    """What becomes of a patch."""

    TRAIN = 0
    VAL = 1
    REJECTED = 2


CATEGORY_COLORS = ("#ffd60a", "#40e0ff", "#ff453a")
"""Of each category; patches without a split have the first."""


def patch_categories(verdicts: Verdicts) -> NDArray[np.uint8]:
    """Give the category of each candidate."""
    found = np.full(len(verdicts.split), PatchCategory.REJECTED, np.uint8)
    np.copyto(found, verdicts.split, where=verdicts.kept, casting="unsafe")
    return found
