"""Filters: which patches are worth training on, by a measure of their pixels."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from napari_patchset.errors import ArgumentError
from napari_patchset.model import by_kind, user_message
from napari_patchset.patching.filters.base import PatchFilter
from napari_patchset.patching.filters.metrics import Mask, Max, Mean, Saturation, Shannon, Std
from napari_patchset.patching.filters.text import read_filter

__all__ = [
    "FILTERS",
    "Filter",
    "Mask",
    "Max",
    "Mean",
    "Saturation",
    "Shannon",
    "Std",
    "check_filters",
    "parse_filter",
    "score_columns",
]

Filter = Annotated[Max | Mean | Std | Shannon | Saturation | Mask, Field(discriminator="kind")]
"""Every filter that a plan can name; a further one is a class and its name here."""

FILTERS: Mapping[str, type[PatchFilter]] = by_kind(Filter)
"""By kind."""

_FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


def score_columns(filters: Sequence[PatchFilter], channels: Sequence[str]) -> list[str]:
    """Name the columns of everything that filters look at, each once."""
    found = {column for each in filters for column in each.columns(channels).values()}
    return sorted(found)


def check_filters(filters: Sequence[PatchFilter], channels: Sequence[str], dtype: str) -> None:
    """Refuse filters that can't measure the patches, before one is read.

    Raises
    ------
    ArgumentError
        If a channel does not exist, or the pixel type has no range of grey values.
    """
    score_columns(filters, channels)
    for each in filters:
        each.measure(np.zeros((1, 1), dtype))


def parse_filter(text: str) -> Filter:
    """Make a filter of a line such as "std[DAPI]>p10"; `str` gives the line back.

    KIND, its settings in parentheses, the channels in brackets, and a limit on one or both sides:
    "std>5", "5<std<100", "max<otsu", "shannon(bins=64)>2", "std[DAPI,1]>5". One of the channels
    must pass, or with "all" in front each of them: "std[all DAPI,GFP]>5", "std[all]>5". A name
    that would be misread stands in double quotes, as in JSON.

    Raises
    ------
    ArgumentError
        If there is no such filter, setting or limit.
    """
    try:
        return _FILTER.validate_python(read_filter(text))
    except ValidationError as error:
        raise ArgumentError(f"{text!r} is no filter: {user_message(error)}.") from error
