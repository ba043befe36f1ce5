"""Filters: which patches are worth training on, by a metric of their pixels.

Each filter is a frozen model with the limits, the channels and the settings of its metric. To add
one, write a class with a `kind` and `_measure`, and add it to the union `Filter`; its text
("range>5"), its column ("range_DAPI") and its row in the window follow from the kind. A `word` is
what microscopists call the metric; `metric_words` has the sentences.
"""

import re
from collections.abc import Mapping, Sequence
from math import ceil, isfinite, prod
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from napari_patchset._model import Frozen, by_kind, user_message
from napari_patchset.channels import ChannelId, channel_indices
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filter_syntax import format_filter, format_metric, parse_fields

_PIXELS_AT_ONCE = 2**17
"""Pixels that are measured at once: a megabyte as float64, which fits into the CPU's cache."""

Pixels = NDArray[Any]
Metric = NDArray[np.float64]


def _shortest(number: float) -> float:
    """Return an integer as a float, if a float holds it exactly."""
    if isinstance(number, int) and abs(number) < 2**1000 and int(float(number)) == number:
        return float(number)
    return number


def _check_limit(limit: float | str) -> float | str:
    if isinstance(limit, str):
        percentile = re.fullmatch(r"p(\d+(?:\.\d+)?)", limit)
        if limit != "otsu" and not (percentile and float(percentile[1]) <= 100):
            raise ValueError(f"{limit!r} is not a limit; give a number, p0 to p100, or otsu")
    elif not isfinite(limit):
        raise ValueError(f"the limit {limit} is not finite")
    else:
        limit = _shortest(limit)
    return limit


Limit = Annotated[float | int | str, AfterValidator(_check_limit)]
"""A number; "p10", that percentile of the metric; or "otsu", Otsu's threshold of the metric."""


class PatchFilter(Frozen):
    """Keep a patch whose metric lies above, below, or between limits.

    `str(filter)` is the text that `parse_filter` reads.

    Parameters
    ----------
    above, below : float, "pNN", "otsu" or None
        The metric must be greater, or less, than that; at least one is required.
    channels : tuple of int or str, or None
        The channels that are measured, by name, or by their index among the exported ones; a
        name may be that of a channel that is not exported. None for all that are.
    match : {"any", "all"}
        Whether any of the channels, or each of them, must pass.
    """

    word: ClassVar[str] = ""
    """What people call the metric, "contrast"; the kind if it is empty."""
    meaning: ClassVar[str] = ""
    """What is computed, in a few words."""

    kind: str
    above: Limit | None = None
    below: Limit | None = None
    channels: tuple[ChannelId, ...] | None = Field(default=None, min_length=1)
    match: Literal["any", "all"] = "any"

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("a filter needs a limit, above or below")
        return self

    def measure(self, patches: Pixels) -> Metric:
        """Measure one channel of patches; the result for a patch depends on no other patch.

        Parameters
        ----------
        patches : ndarray, (N, (Z), Y, X)
            Pixels in native dtype, without padding; complex ones are measured by magnitude.

        Returns
        -------
        ndarray
            float64, (N,); -inf, which passes no filter, for a patch with NaN or infinity.
        """
        # The order in which a contiguous row is summed does not depend on its neighbours.
        patches = np.ascontiguousarray(patches)
        metric = np.empty(len(patches))
        step = max(1, _PIXELS_AT_ONCE // prod(patches.shape[1:]))
        for first in range(0, len(patches), step):
            few = slice(first, first + step)
            metric[few] = self._measure_finite(patches[few])
        return metric

    def _measure_finite(self, patches: Pixels) -> Metric:
        patches = np.abs(patches) if patches.dtype.kind == "c" else patches
        axes = tuple(range(1, patches.ndim))
        if patches.dtype.kind != "f" or (finite := np.isfinite(patches).all(axis=axes)).all():
            return self._measure_shaped(patches).astype(np.float64)
        metric = np.full(len(patches), -np.inf)
        if finite.any():
            metric[finite] = self._measure_shaped(patches[finite])
        return metric

    def _measure_shaped(self, patches: Pixels) -> Pixels:
        """Measure patches, N, (Z), Y, X; for metrics that depend on where a pixel lies."""
        return self._measure(patches.reshape(len(patches), -1))

    def _measure(self, rows: Pixels) -> Pixels:
        """Measure patches that are one row of pixels each: (N, pixels) to (N,)."""
        raise NotImplementedError

    def column(self, channel: str) -> str:
        """Return the name of a channel's column in the table: "std_DAPI"."""
        return f"{self._metric}_{channel}"

    def measure_rest(self, patches: Pixels) -> Metric:
        """Measure what `measure` leaves out where a float can't hold the metric of an integer."""
        return np.zeros(len(patches))

    def columns(self, channels: Sequence[str], others: Sequence[str] = ()) -> dict[int, str]:
        """Return the column of each measured channel, by the channel's index.

        Parameters
        ----------
        channels : sequence of str
            The names of the exported channels; equal names are distinguished by the index.
        others : sequence of str
            The names of further channels; their indices follow those of the exported ones.

        Raises
        ------
        ArgumentError
            If there is no such channel.
        """
        unique = distinct_names([*channels, *others])
        indices = (
            channel_indices(channels, None)
            if self.channels is None
            else [_find_channel(each, channels, others) for each in self.channels]
        )
        return {i: self.column(unique[i]) for i in indices}

    @property
    def _metric(self) -> str:
        settings = self.model_dump(exclude=set(PatchFilter.model_fields), exclude_none=True)
        return format_metric(self.kind, settings)

    def __str__(self) -> str:
        return format_filter(self._metric, self.channels, self.match, self.above, self.below)


class MaxFilter(PatchFilter):
    """Filter by the largest pixel."""

    word: ClassVar[str] = "brightest pixel"
    meaning: ClassVar[str] = "the largest pixel"

    kind: Literal["max"] = "max"

    def _measure(self, rows: Pixels) -> Pixels:
        metric: Pixels = rows.max(axis=1)
        return metric

    def measure_rest(self, patches: Pixels) -> Metric:  # noqa: D102, on PatchFilter
        rest = np.zeros(len(patches))
        if patches.dtype.kind in "ui":
            largest = patches.reshape(len(patches), -1).max(axis=1).tolist()
            rest[:] = [number - int(float(number)) for number in largest]
        return rest


class MeanFilter(PatchFilter):
    """Filter by the mean."""

    word: ClassVar[str] = "brightness"
    meaning: ClassVar[str] = "the mean of the pixels"

    kind: Literal["mean"] = "mean"

    def _measure(self, rows: Pixels) -> Pixels:
        if _sums_are_exact(rows):
            mean: Metric = rows.astype(np.float64).mean(axis=1)
            return mean
        first, difference, exponent = _differences(rows)
        scaled: Metric = np.ldexp(first + difference.mean(axis=1), exponent)
        return scaled


class StdFilter(PatchFilter):
    """Filter by the standard deviation, with N in the denominator."""

    word: ClassVar[str] = "contrast"
    meaning: ClassVar[str] = "the standard deviation of the pixels"

    kind: Literal["std"] = "std"

    def _measure(self, rows: Pixels) -> Pixels:
        if _sums_are_exact(rows):
            std: Metric = rows.astype(np.float64).std(axis=1)
            return std
        _, difference, exponent = _differences(rows)
        scaled: Metric = np.ldexp(difference.std(axis=1), exponent)
        return scaled


class FocusFilter(PatchFilter):
    """Filter by the sharpness: the variance of the Laplacian over the squared mean.

    The Laplacian of a pixel is the sum of its four neighbours along Y and X minus four times the
    pixel itself. It is taken wherever all four are in the patch, in each plane of a volume. A patch
    without such a pixel, of less than 3 along Y or X, has the sharpness 0; one with a Laplacian but
    a mean of 0 passes no filter.
    """

    word: ClassVar[str] = "sharpness"
    meaning: ClassVar[str] = "the variance of the Laplacian over the squared mean"

    kind: Literal["focus"] = "focus"

    def _measure_shaped(self, patches: Pixels) -> Pixels:
        rows = patches.reshape(len(patches), -1)
        if _sums_are_exact(rows):
            offset, wide = np.zeros(len(rows)), rows.astype(np.float64)
        else:  # differences have the same Laplacian, and the unit of a row cancels
            offset, wide, _ = _differences(rows)
        mean = offset + wide.mean(axis=1)
        planes = wide.reshape(patches.shape)
        laplacian = planes[..., :-2, 1:-1] + planes[..., 2:, 1:-1]
        laplacian += planes[..., 1:-1, :-2] + planes[..., 1:-1, 2:]
        laplacian -= 4 * planes[..., 1:-1, 1:-1]
        if not laplacian.size:
            return np.zeros(len(rows))
        spread: Metric = laplacian.reshape(len(rows), -1).std(axis=1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            focus: Metric = np.square(spread / mean)
        focus[spread == 0] = 0
        focus[~np.isfinite(focus)] = -np.inf
        return focus


class ShannonFilter(PatchFilter):
    """Filter by the Shannon entropy of the grey values, in bits.

    Parameters
    ----------
    bins : int or None
        Number of bins of equal width; None, for integers only, for one bin per grey value, which
        is scikit-image's `shannon_entropy` and the filter of CAREamics.
    low, high : float or None
        The range of the bins; values beyond count in the first or last one. None for the range of
        the pixel type, which only integers have.
    """

    word: ClassVar[str] = "entropy"
    meaning: ClassVar[str] = "the Shannon entropy of the grey values in bits"

    kind: Literal["shannon"] = "shannon"
    bins: int | None = Field(default=None, ge=2)
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low is None and self.high is None:
            return self
        if self.bins is None or self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("shannon needs bins, low and high, low below high, for a range")
        return self

    def _measure(self, rows: Pixels) -> Pixels:
        values = np.sort(self._binned(rows), axis=1)
        is_first = np.ones(values.shape, bool)
        np.not_equal(values[:, 1:], values[:, :-1], out=is_first[:, 1:])
        firsts = np.flatnonzero(is_first)
        counts = np.diff(firsts, append=is_first.size)
        # The entropy of counts c of n pixels: log2(n) - sum(c log2(c)) / n.
        n = values.shape[1]
        sums = np.bincount(firsts // n, counts * np.log2(counts), minlength=len(rows))
        entropy: Metric = np.log2(n) - sums / n
        return entropy

    def _binned(self, rows: Pixels) -> Pixels:
        if self.low is None or self.high is None:
            low, high = map(float, _grey_range(rows.dtype, "shannon(bins=256,low=0,high=1)>2"))
        else:
            low, high = self.low, self.high
        if self.bins is None:
            return rows
        index = (rows.astype(np.float64) - low) * (self.bins / (high - low))
        return np.clip(index, 0, self.bins - 1).astype(np.int32)


class SaturationFilter(PatchFilter):
    """Filter by the share of pixels, 0 to 1, at a level or above.

    Parameters
    ----------
    level : float or None
        The grey value; None for the largest one of the pixel type, which only integers have. A
        camera of 12 bits saturates at 4095.
    """

    word: ClassVar[str] = "saturation"
    meaning: ClassVar[str] = "the share of pixels at the largest grey value, 0 to 1"

    kind: Literal["saturation"] = "saturation"
    level: Annotated[float | int, AfterValidator(_shortest)] | None = Field(
        default=None, allow_inf_nan=False
    )

    def _measure(self, rows: Pixels) -> Pixels:
        level: float | None = self.level
        if level is None:
            _, level = _grey_range(rows.dtype, "saturation(level=1)<0.01")
        # Integers are compared as integers: a float can't hold all of those of 64 bits.
        return _share(rows >= (level if rows.dtype.kind == "f" else ceil(level)))


class MaskFilter(PatchFilter):
    """Filter by the share of pixels, 0 to 1, where the mask of the source is not zero."""

    word: ClassVar[str] = "mask"
    meaning: ClassVar[str] = "the share of pixels in the mask, 0 to 1"

    kind: Literal["mask"] = "mask"

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if self.channels is not None or self.match != "any":
            raise ValueError("mask measures the one channel of the mask; leave channels out")
        return self

    def _measure(self, rows: Pixels) -> Pixels:
        return _share(rows != 0)

    def columns(  # noqa: D102, on PatchFilter
        self, channels: Sequence[str], others: Sequence[str] = ()
    ) -> dict[int, str]:
        return {0: self.column("mask")}

    def column(self, channel: str) -> str:  # noqa: D102, on PatchFilter
        return "mask"


class ShareFilter(PatchFilter):
    """Filter by the share of pixels, 0 to 1, of a class of the annotations: share[Tumor]>0.2.

    The channels are names of classes. Where outlines overlap, a pixel is of each of their classes.
    """

    word: ClassVar[str] = "share"
    meaning: ClassVar[str] = "the share of pixels of a class of the annotations, 0 to 1"

    kind: Literal["share"] = "share"

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.channels is None:
            raise ValueError("share measures a class; name it, as in share[Tumor]>0.2")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are measured."""
        return tuple(map(str, self.channels or ()))

    def _measure(self, rows: Pixels) -> Pixels:
        return _share(rows != 0)

    def columns(  # noqa: D102, on PatchFilter
        self, channels: Sequence[str], others: Sequence[str] = ()
    ) -> dict[int, str]:
        return {i: self.column(name) for i, name in enumerate(self.class_names)}


Filter = Annotated[
    MaxFilter
    | MeanFilter
    | StdFilter
    | FocusFilter
    | ShannonFilter
    | SaturationFilter
    | MaskFilter
    | ShareFilter,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: parse_filter(value) if isinstance(value, str) else value),
]
"""Every filter that a plan can name, also as text; to add one, write its class and add it here."""

FILTERS: Mapping[str, type[PatchFilter]] = by_kind(Filter)
"""By kind."""

_KINDS = {model.word: kind for kind, model in FILTERS.items()}
"""By the word for it, which a text may have instead."""

_FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


def parse_filter(text: str) -> Filter:
    """Return the filter of a line such as "std[DAPI]>p10"; `str` returns the line.

    The line is a kind, or the word for it such as "contrast", its settings in parentheses, the
    channels in brackets, and a limit on one or both sides: "std>5", "5<std<100", "max<otsu",
    "shannon(bins=64)>2", "std[DAPI,1]>5". Any of the channels must pass, or with "all" in front
    each of them: "std[all DAPI,GFP]>5", "std[all]>5". A name that would be misread is written in
    double quotes, as in JSON.

    Raises
    ------
    ArgumentError
        If there is no such filter, setting or limit.
    """
    try:
        fields = parse_fields(text)
        return _FILTER.validate_python(
            fields | {"kind": _KINDS.get(fields["kind"], fields["kind"])}
        )
    except ValidationError as error:
        raise ArgumentError(f"{text!r} is not a filter: {user_message(error)}.") from error


def _find_channel(channel: ChannelId, channels: Sequence[str], others: Sequence[str]) -> int:
    """Return the index of a channel among the exported ones, or behind them among the others."""
    is_exported = str(channel) in channels or channel in range(len(channels))
    if not is_exported and str(channel) in others:
        return len(channels) + others.index(str(channel))
    return channel_indices(channels, [channel])[0]


def _share(passes: NDArray[np.bool_]) -> Metric:
    share: Metric = passes.mean(axis=1)
    return share


def distinct_names(channels: Sequence[str]) -> list[str]:
    """Return the names of channels, equal ones with their index: "DAPI 0", "DAPI 1"."""
    names = [n if channels.count(n) == 1 else f"{n} {i}" for i, n in enumerate(channels)]
    while len(set(names)) < len(names):  # a channel may be called "DAPI 0" itself
        names = [
            n if names.count(n) == 1 or channels.count(channels[i]) == 1 else f"{n} {i}"
            for i, n in enumerate(names)
        ]
    return names


def _sums_are_exact(rows: Pixels) -> bool:
    """Return whether sums of the pixels are exact in double precision: integers below 64 bits."""
    return rows.dtype.kind in "bui" and rows.itemsize < 8


def _differences(rows: Pixels) -> tuple[Metric, Pixels, NDArray[np.int32]]:
    """Return the first pixel of each row, and how much each pixel differs from it.

    Differences keep the digits of a small spread around a large mean. Both are in units of 2 to
    the power of an exponent for each row, so that no square is infinite or zero.
    """
    exponent = np.zeros(len(rows), np.int32)
    if rows.dtype.kind in "ui":
        high, low = (rows >> 32).astype(np.int64), (rows & 0xFFFFFFFF).astype(np.int64)
        difference = (high - high[:, :1]) * 2.0**32 + (low - low[:, :1])
        return rows[:, 0].astype(np.float64), difference, exponent
    wide = rows.astype(np.float64)
    largest = np.frexp(np.abs(wide).max(axis=1))[1]
    if (np.abs(largest) > 400).any():
        exponent = largest
        wide = np.ldexp(wide, -exponent[:, np.newaxis])
    return wide[:, 0], wide - wide[:, :1], exponent


def _grey_range(dtype: np.dtype[Any], example: str) -> tuple[int, int]:
    """Return the range of a pixel type; only integers have one."""
    if dtype.kind not in "iu":
        raise ArgumentError(f"{dtype} has no range of grey values; set it, as in {example}.")
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
