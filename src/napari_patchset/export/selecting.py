"""Select: judge every candidate, once all that the verdict depends on is known."""

import numpy as np

from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.partial import PartialExport
from napari_patchset.export.selection import Selection
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.patchset.layout import UNSPLIT


def select(partial: PartialExport, frozen: FrozenPlan) -> Selection:
    """Judge the candidates and keep the verdicts in the folder."""
    zeros = np.zeros(frozen.n_candidates, np.int8)
    selection = Selection.of(Verdicts((UNSPLIT,), zeros, zeros - np.int8(1)))
    partial.write_selection(selection)
    return selection
