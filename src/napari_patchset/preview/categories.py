"""The categories that patches are drawn in, and their colours."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.verdicts import Verdicts


class PatchCategory(IntEnum):
    """The use of a patch."""

    TRAIN = 0
    VAL = 1
    REJECTED = 2


CATEGORY_COLORS = ("#ffd60a", "#40e0ff", "#ff453a")
"""The colour of each category; patches without a split have the first."""


def patch_categories(verdicts: Verdicts) -> NDArray[np.uint8]:
    """Return the category of each candidate."""
    category = np.full(len(verdicts.split), PatchCategory.REJECTED, np.uint8)
    np.copyto(category, verdicts.split, where=verdicts.kept, casting="unsafe")
    return category
