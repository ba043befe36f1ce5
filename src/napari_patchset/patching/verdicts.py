"""What becomes of each candidate: its split, whether it is kept, and why not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Verdicts:
    """One entry a candidate, in the order of the grid.

    Attributes
    ----------
    splits : tuple of str
        The names of the splits, ("all",) or ("train", "val").
    split : int8 array
        Index into `splits`, -1 for a patch that lies across the border of two.
    reason : int8 array
        Index into `reasons` of why it is rejected, -1 if it is kept.
    reasons : tuple of str
        Why a candidate can be rejected.
    metrics : dict of str to float64 array
        Every metric of every candidate, by the name of its column.
    limits : dict of str to float
        What thresholds that depend on all candidates came to, by the name of the column.
    """

    splits: tuple[str, ...]
    split: NDArray[np.int8]
    reason: NDArray[np.int8]
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which candidates are exported."""
        found: NDArray[np.bool_] = self.reason < 0
        return found
