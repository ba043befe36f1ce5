"""The categories that patches are drawn in, and their colours."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.groups import NO_SPLIT, TEST, VALIDATION
from napari_patchset.patching.verdicts import Verdicts


class PatchCategory(IntEnum):
    """The use of a patch."""

    TRAIN = 0
    VAL = 1
    TEST = 2
    REJECTED = 3


CATEGORY_COLORS = ("#ffd60a", "#40e0ff", "#d783ff", "#ff453a")
"""The colour of each category; patches without a split have the first."""


def category_of(split: str) -> PatchCategory:
    """Return the category of the patches of a split; "train" is that of "all", too."""
    names = {VALIDATION: PatchCategory.VAL, TEST: PatchCategory.TEST}
    return names.get(split, PatchCategory.TRAIN)


def patch_categories(verdicts: Verdicts, fold: int | None = None) -> NDArray[np.uint8]:
    """Return the category of each candidate.

    Parameters
    ----------
    fold : int or None
        The fold that validates, if the split has folds; None for none of them.
    """
    by_code = [*map(category_of, verdicts.splits), PatchCategory.REJECTED]
    of_split = np.array(by_code, np.uint8)  # the last one for NO_SPLIT
    category = np.where(verdicts.kept, of_split[verdicts.split], of_split[NO_SPLIT])
    if fold is not None and verdicts.fold is not None:
        category[verdicts.kept & (verdicts.fold == fold)] = PatchCategory.VAL
    return category
