"""Filters: which patches are worth training on, by a measure of their pixels."""

import re
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from napari_patchset.model import Frozen

ChannelId = int | str
"""A channel by index or name."""

_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")


def _checked_limit(limit: float | str) -> float | str:
    if isinstance(limit, str) and limit != "otsu":
        found = _PERCENTILE.fullmatch(limit)
        if not found or float(found[1]) > 100:
            raise ValueError(f"{limit!r} is no limit; give a number, p0 to p100, or otsu")
    return limit


Limit = Annotated[float | str, AfterValidator(_checked_limit)]
"""A number; "p10", that percentile of the metric; or "otsu", Otsu's threshold of the metric."""


class PatchFilter(Frozen, ABC):
    """Keep a patch whose metric lies above, below, or between limits.

    Parameters
    ----------
    above, below : float, "pNN", "otsu" or None
        The metric must be greater, or less, than that; at least one is given.
    channels : tuple of int or str, or None
        The channels that are looked at; None for all.
    match : {"any", "all"}
        Whether one of the channels, or each of them, must pass.
    """

    above: Limit | None = None
    below: Limit | None = None
    channels: tuple[ChannelId, ...] | None = None
    match: Literal["any", "all"] = "any"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("a filter needs a limit, above or below")
        return self

    @abstractmethod
    def measure(self, patches: NDArray[Any]) -> NDArray[np.float64]:
        """Measure one channel of N patches, (N, (Z), Y, X) in native dtype, in bounds: (N,)."""


class Max(PatchFilter):
    """Look at the largest pixel."""

    kind: Literal["max"] = "max"

    def measure(self, patches: NDArray[Any]) -> NDArray[np.float64]:  # noqa: D102, on PatchFilter
        found: NDArray[np.float64] = patches.max(axis=_inner(patches)).astype(np.float64)
        return found


class Mean(PatchFilter):
    """Look at the mean."""

    kind: Literal["mean"] = "mean"

    def measure(self, patches: NDArray[Any]) -> NDArray[np.float64]:  # noqa: D102, on PatchFilter
        found: NDArray[np.float64] = patches.mean(axis=_inner(patches), dtype=np.float64)
        return found


class Std(PatchFilter):
    """Look at the standard deviation, with N in the denominator."""

    kind: Literal["std"] = "std"

    def measure(self, patches: NDArray[Any]) -> NDArray[np.float64]:  # noqa: D102, on PatchFilter
        found: NDArray[np.float64] = patches.std(axis=_inner(patches), dtype=np.float64)
        return found


Filter = Annotated[Max | Mean | Std, Field(discriminator="kind")]
"""Every filter that a plan can name."""


def _inner(patches: NDArray[Any]) -> tuple[int, ...]:
    return tuple(range(1, patches.ndim))
