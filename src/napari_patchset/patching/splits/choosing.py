"""Which groups validate: by chance, as many as come nearest to the share that is wanted."""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def choose(
    inside: Counts, touching: Counts, n_patches: int, ranks: NDArray[np.uint64], val: float
) -> NDArray[np.bool_]:
    """Choose groups of patches to validate, in the order of their ranks.

    A group is taken if the share of validation patches comes nearer to `val` by it, and a patch
    is left to train. If that takes none, the one is taken that comes nearest.

    Parameters
    ----------
    inside : int64 array
        Patches that lie in each group alone: they validate if it is chosen.
    touching : int64 array
        Patches that lie in each group at all: they can't train if it is chosen.
    n_patches : int
        All patches.
    ranks : uint64 array
        One for each group.

    Returns
    -------
    ndarray
        Which groups validate; none if there is no choice.
    """
    chosen = np.zeros(len(inside), bool)
    possible = np.flatnonzero((inside > 0) & (touching < n_patches))
    order = possible[np.argsort(ranks[possible], kind="stable")]
    won = lost = 0
    off = val
    for group, w, t in zip(order.tolist(), inside[order], touching[order], strict=True):
        left = n_patches - lost - int(t)
        if left > 0 and (now := abs(_share(won + int(w), left) - val)) < off:
            chosen[group] = True
            won, lost, off = won + int(w), lost + int(t), now
        if _share(won, n_patches - lost) >= val:
            break
    if not won and len(order):
        alone = inside[order] / (n_patches - touching[order] + inside[order])
        chosen[order[np.argmin(np.abs(alone - val))]] = True
    return chosen


def _share(won: int, left: int) -> float:
    return won / (won + left)
