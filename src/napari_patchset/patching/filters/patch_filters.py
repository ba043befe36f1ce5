"""Filters: which patches are worth training on, by a metric of their pixels.

Each filter is a frozen model with the limits, the channels and the settings of its metric. To add
one, write a class with a `kind` and `_measure`, and add it to the union `Filter`; its text
("range>5"), its column ("range_DAPI") and its row in the window follow from the kind. A `word` is
what microscopists call the metric; `measurements` has the sentences. How a metric is computed is in
`pixel_metrics`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from napari_patchset._model import Settings, by_kind, user_message
from napari_patchset.channels import ChannelId, channel_indices, distinct_names, find_channel
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters.pixel_metrics import (
    Metric,
    Pixels,
    binned,
    entropy,
    grey_range,
    maxima,
    means,
    measure_in_parts,
    shares,
    sharpness,
    standard_deviations,
)
from napari_patchset.patching.filters.syntax import format_filter, format_metric, parse_fields


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


class PatchFilter(Settings, ABC):
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
        return measure_in_parts(self._measure, patches)

    @abstractmethod
    def _measure(self, patches: Pixels) -> Pixels:
        """Return the metric of each of some patches, (N, (Z), Y, X), of finite real pixels."""

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
            else [find_channel(each, channels, others) for each in self.channels]
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

    def _measure(self, patches: Pixels) -> Pixels:
        return maxima(patches)

    def measure_rest(self, patches: Pixels) -> Metric:  # noqa: D102, on PatchFilter
        if patches.dtype.kind not in "ui":
            return super().measure_rest(patches)
        return np.array([n - int(float(n)) for n in maxima(patches).tolist()], np.float64)


class MeanFilter(PatchFilter):
    """Filter by the mean."""

    word: ClassVar[str] = "brightness"
    meaning: ClassVar[str] = "the mean of the pixels"

    kind: Literal["mean"] = "mean"

    def _measure(self, patches: Pixels) -> Pixels:
        return means(patches)


class StdFilter(PatchFilter):
    """Filter by the standard deviation, with N in the denominator."""

    word: ClassVar[str] = "contrast"
    meaning: ClassVar[str] = "the standard deviation of the pixels"

    kind: Literal["std"] = "std"

    def _measure(self, patches: Pixels) -> Pixels:
        return standard_deviations(patches)


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

    def _measure(self, patches: Pixels) -> Pixels:
        return sharpness(patches)


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

    def _measure(self, patches: Pixels) -> Pixels:
        low, high = self.low, self.high
        if low is None or high is None:  # also without bins: floats have no grey values to count
            low, high = map(float, grey_range(patches.dtype, "shannon(bins=256,low=0,high=1)>2"))
        return entropy(patches if self.bins is None else binned(patches, self.bins, low, high))


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

    def _measure(self, patches: Pixels) -> Pixels:
        level: float | None = self.level
        if level is None:
            _, level = grey_range(patches.dtype, "saturation(level=1)<0.01")
        # Integers are compared as integers: a float can't hold all of those of 64 bits.
        return shares(patches >= (level if patches.dtype.kind == "f" else ceil(level)))


class MaskFilter(PatchFilter):
    """Filter by the share of pixels, 0 to 1, where the mask of the source is not zero."""

    word: ClassVar[str] = "mask"
    meaning: ClassVar[str] = "the share of pixels in the mask, 0 to 1"

    kind: Literal["mask"] = "mask"

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if self.channels is not None or self.match != "any":
            raise ValueError("mask measures the mask, which has one channel; name no channel")
        return self

    def _measure(self, patches: Pixels) -> Pixels:
        return shares(patches != 0)

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

    def _measure(self, patches: Pixels) -> Pixels:
        return shares(patches != 0)

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
"""The kind by its word, which a text may have instead."""

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
