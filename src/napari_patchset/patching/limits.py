"""Limits of filters: a number, or one that depends on the metric of all candidates.

"p10" is the 10th percentile, "otsu" Otsu's threshold. `resolve_limit` turns each into a number.
"""

import re
from math import isfinite
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

OTSU_BINS = 256
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")


def _check(limit: float | str) -> float | str:
    if isinstance(limit, str):
        percentile = _PERCENTILE.fullmatch(limit)
        if limit != "otsu" and not (percentile and float(percentile[1]) <= 100):
            raise ValueError(f"{limit!r} is no limit; give a number, p0 to p100, or otsu")
    elif not isfinite(limit):
        raise ValueError(f"the limit {limit} is not finite")
    return limit


Limit = Annotated[float | str, AfterValidator(_check)]
"""A number; "p10", that percentile of the metric; or "otsu", Otsu's threshold of the metric."""


def resolve_limit(limit: float | str, metric: NDArray[np.float64]) -> float:
    """Return a limit as a number; NaN if it depends on a metric that no candidate has.

    Parameters
    ----------
    metric : float64 array
        The metric of every candidate; those that are not finite do not count.
    """
    if not isinstance(limit, str):
        return limit
    known = metric[np.isfinite(metric)]
    if not len(known):
        return np.nan
    if limit == "otsu":
        return otsu_threshold(known)
    return float(np.percentile(known, float(limit[1:])))


def otsu_threshold(values: NDArray[Any]) -> float:
    """Return the threshold that separates values into the two classes that are furthest apart.

    Otsu (1979), doi:10.1109/TSMC.1979.4310076, on a histogram of 256 bins from the least to the
    greatest value; the centre of the last bin of the lower class, as in scikit-image.
    """
    low, high = float(values.min()), float(values.max())
    # Closer than this, floats are too coarse for that many bins; above the least is one class.
    if high - low <= OTSU_BINS * np.spacing(max(abs(low), abs(high))):
        return low
    counts, edges = np.histogram(values, bins=OTSU_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below, total = counts.cumsum(), (counts * centres).cumsum()
    n_low, n_high = below[:-1], below[-1] - below[:-1]
    distance = total[:-1] / n_low - (total[-1] - total[:-1]) / n_high
    return float(centres[np.argmax(n_low * n_high * distance**2)])
