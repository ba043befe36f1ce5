"""Which samples and depths of a source are chosen, by the file's own numbers."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from napari_patchset.errors import ArgumentError
from napari_patchset.source import SourceInfo

MOST_SAMPLES = 2**22

AxisRange = tuple[int | None, int | None]
"""First number and the one after the last; None for the file's own end."""


def _checked(select: dict[str, AxisRange]) -> dict[str, AxisRange]:
    for axis, (first, stop) in select.items():
        if len(axis) != 1 or not axis.isupper() or axis in "CYX":
            raise ValueError(f"can't select along {axis!r}; name Z, T, S (the sample) or the like")
        if first is not None and stop is not None and first >= stop:
            raise ValueError(f"{axis} {first}:{stop} is empty; the second number is exclusive")
    return select


AxisRanges = Annotated[dict[str, AxisRange], AfterValidator(_checked)]
"""Ranges by axis, e.g. {"Z": (5, 25), "T": (None, 10)}."""


def selected_samples(source: SourceInfo, select: Mapping[str, AxisRange]) -> NDArray[np.int64]:
    """Give the samples whose numbers lie in every range.

    "S" is the sample counted from 0, unless the image has an axis S of its own. An axis that the
    image lacks has the one number that it starts at.

    Raises
    ------
    ArgumentError
        If the source has more samples than can be planned for: a file may declare any number.
    """
    if source.n_samples > MOST_SAMPLES:
        raise ArgumentError(
            f"{source.name} has {source.n_samples} planes, or volumes, in S; patches can be cut "
            f"out of at most {MOST_SAMPLES}. Cut the file into several."
        )
    kept = np.ones(source.n_samples, bool)
    numbers = _sample_numbers(source)
    for axis, wanted in select.items():
        if axis != source.depth_axis:
            start = np.full(len(kept), source.starts.get(axis, 0))
            kept &= _within(numbers.get(axis, start), wanted)
    return np.flatnonzero(kept)


def selected_depth(source: SourceInfo, select: Mapping[str, AxisRange]) -> tuple[int, int]:
    """Give the first depth, counted from 0, and the number of depths; 0 if there is none."""
    n, start = source.spatial_shape[0], source.starts.get(source.depth_axis, 0)
    low, high = select.get(source.depth_axis, (None, None))
    first = 0 if low is None else max(0, low - start)
    stop = n if high is None else min(n, high - start)
    return first, max(0, stop - first)


def describe_numbers(source: SourceInfo, select: Mapping[str, AxisRange]) -> str:
    """Say which numbers a source has along the selected axes: "Z 0 to 24, T 3 to 8"."""
    numbers = _sample_numbers(source)
    said = []
    for axis in select:
        start = source.starts.get(axis, 0)
        if axis not in (*source.layout.sizes, "S"):
            said.append(f"no axis {axis}, which counts as {start}")
            continue
        size = source.layout.sizes.get(axis, 1)
        last = int(numbers[axis].max()) if axis in numbers else start + size - 1
        said.append(f"{axis} {start} to {last}")
    return ", ".join(said)


def _sample_numbers(source: SourceInfo) -> dict[str, NDArray[np.int64]]:
    """Give every sample's number along S and each axis that is merged into it."""
    samples = np.arange(source.n_samples)
    layout = source.layout
    indices = np.unravel_index(samples, layout.sample_shape) if layout.sample_axes else ()
    own = zip(layout.sample_axes, indices, strict=True)
    return {"S": samples} | {axis: index + source.starts.get(axis, 0) for axis, index in own}


def _within(numbers: NDArray[np.int64], wanted: AxisRange) -> NDArray[np.bool_]:
    first, stop = wanted
    kept = np.ones(len(numbers), bool)
    if first is not None:
        kept &= numbers >= first
    if stop is not None:
        kept &= numbers < stop
    return kept
