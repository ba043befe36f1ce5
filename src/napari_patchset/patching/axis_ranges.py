"""Ranges of Z, T, S, ... that limit the samples and depths of a source.

Numbers are those of the file, which may begin at another one than 0 (`SourceInfo.starts`).
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator

from napari_patchset.errors import ArgumentError
from napari_patchset.source import SourceInfo

MAX_SAMPLES = 2**22

AxisRange = tuple[int | None, int | None]
"""First number and the one after the last; None for the file's own end."""


def _check(ranges: dict[str, AxisRange]) -> dict[str, AxisRange]:
    for axis, (first, stop) in ranges.items():
        if len(axis) != 1 or not axis.isupper() or axis in "CYX":
            raise ValueError(f"can't select along {axis!r}; name Z, T or another axis of planes")
        if first is not None and stop is not None and first >= stop:
            raise ValueError(
                f"{axis} {first}:{stop} is empty; the second number is the first that is not taken"
            )
    return ranges


def _parse(ranges: Any) -> Any:
    """Parse "Z=5:25,T=:10"; leave everything but text to pydantic."""
    if not isinstance(ranges, str):
        return ranges
    parsed: dict[str, AxisRange] = {}
    for part in ranges.split(","):
        axis, _, span = part.partition("=")
        first, colon, stop = span.partition(":")
        try:
            start, end = (int(n) if n.strip() else None for n in (first, stop))
        except ValueError:
            colon = ""
        if not colon:
            raise ValueError(f"{ranges!r} is not a selection; write ranges like Z=5:25,T=:10")
        parsed[axis.strip().upper()] = start, end
    return parsed


AxisRanges = Annotated[dict[str, AxisRange], BeforeValidator(_parse), AfterValidator(_check)]
"""Ranges by axis, e.g. {"Z": (5, 25), "T": (None, 10)}, or as text, "Z=5:25,T=:10"."""


def format_ranges(ranges: Mapping[str, AxisRange]) -> str:
    """Return ranges as text, "Z=5:25,T=:10", which `AxisRanges` accepts."""
    return ",".join(f"{axis}={format_range(numbers)}" for axis, numbers in ranges.items())


def format_range(axis_range: AxisRange) -> str:
    """Format a range as "5:25", ":10" or "5:"."""
    return ":".join("" if number is None else str(number) for number in axis_range)


def selected_samples(source: SourceInfo, ranges: Mapping[str, AxisRange]) -> NDArray[np.int64]:
    """Return the samples whose numbers lie in every range, ascending.

    "S" is the sample counted from 0, unless the image has an axis S of its own. An axis that the
    image lacks has one number, the one that it starts at. Raise ArgumentError if the source has
    more samples than can be planned for: a file may declare any number.
    """
    if source.n_samples > MAX_SAMPLES:
        raise ArgumentError(
            f"{source.name} has {source.n_samples} planes, or volumes, in S; patches can be cut "
            f"out of at most {MAX_SAMPLES}. Cut the file into several."
        )
    selected = np.ones(source.n_samples, bool)
    numbers = _sample_numbers(source)
    for axis, (first, stop) in ranges.items():
        if axis == source.depth_axis:
            continue
        along_axis = numbers.get(axis, np.array(source.starts.get(axis, 0)))
        if first is not None:
            selected &= along_axis >= first
        if stop is not None:
            selected &= along_axis < stop
    return np.flatnonzero(selected)


def selected_depths(source: SourceInfo, ranges: Mapping[str, AxisRange]) -> tuple[int, int]:
    """Return the first selected depth, counted from 0, and the number of depths; 0 if none is."""
    n, start = source.spatial_shape[0], source.starts.get(source.depth_axis, 0)
    low, high = ranges.get(source.depth_axis, (None, None))
    first = 0 if low is None else max(0, low - start)
    stop = n if high is None else min(n, high - start)
    return first, max(0, stop - first)


def describe_axes(source: SourceInfo, ranges: Mapping[str, AxisRange]) -> str:
    """Describe the numbers that a source has along the axes of ranges: "Z 0 to 24, T 3 to 8"."""
    numbers = _sample_numbers(source)
    descriptions = []
    for axis in ranges:
        start = source.starts.get(axis, 0)
        if axis not in (*source.layout.sizes, "S"):
            descriptions.append(f"no axis {axis} (only the number {start})")
            continue
        size = source.layout.sizes.get(axis, 1)
        last = int(numbers[axis].max()) if axis in numbers else start + size - 1
        descriptions.append(f"{axis} {start} to {last}")
    return ", ".join(descriptions)


def _sample_numbers(source: SourceInfo) -> dict[str, NDArray[np.int64]]:
    """Return the number of every sample along S and along each axis that is merged into it."""
    samples, layout = np.arange(source.n_samples), source.layout
    indices = np.unravel_index(samples, layout.sample_shape) if layout.sample_axes else ()
    own = zip(layout.sample_axes, indices, strict=True)
    return {"S": samples} | {axis: index + source.starts.get(axis, 0) for axis, index in own}
