"""The categories that patches are drawn in, and their colours: by their use, or by their class."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.splits.groups import NO_SPLIT, TEST, VALIDATION
from napari_patchset.patching.verdicts import Verdicts


class PatchCategory(IntEnum):
    """The use of a patch."""

    TRAIN = 0
    VAL = 1
    TEST = 2
    REJECTED = 3


CATEGORY_COLORS = ("#ffd60a", "#40e0ff", "#d783ff", "#ff453a")
"""The colour of each category; patches without a split have the first."""


_NO_CLASS = "#c8c8c8"


class PatchColors(NamedTuple):
    """How patches are drawn.

    Attributes
    ----------
    category : uint8 array
        The category of each candidate, an index into the colours: a `PatchCategory`, or those of
        the classes behind these.
    colors : tuple of str
        "#rrggbb" of each category.
    """

    category: NDArray[np.uint8]
    colors: tuple[str, ...]


def class_colors(
    verdicts: Verdicts, shares: Sequence[NDArray[np.float64]], colors: Sequence[str]
) -> PatchColors:
    """Return each candidate in the colour of the class that it has most of.

    Those that have none of any class, or are not measured yet, are grey.

    Parameters
    ----------
    shares : sequence of float64 array
        The share of each class in every candidate, NaN where it is not known.
    colors : sequence of str
        The colour of each class.
    """
    most = np.zeros(len(verdicts.kept))
    category = np.zeros(len(most), np.uint8)
    for number, share in enumerate(shares, len(PatchCategory)):
        is_more = share > most  # False for NaN
        category[is_more] = min(number, _LAST)
        most[is_more] = share[is_more]
    category[~verdicts.kept] = PatchCategory.REJECTED
    named = (_NO_CLASS, *CATEGORY_COLORS[1:], *colors)
    return PatchColors(category, named[: _LAST + 1])


_LAST = 255
"""The largest category; classes beyond share it."""


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
