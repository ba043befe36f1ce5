"""The measurements that filters need: a column of metrics for each channel, and the words for it.

Plans, tables and commands have the kinds and columns (`std[DAPI]>p10`, `std_DAPI`); what a person
reads is in the words of a microscopist, "contrast of DAPI > p10". The word of a kind stands in its
class, see `patch_filters`.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from napari_patchset.channels import channel_indices
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters.patch_filters import (
    FILTERS,
    MaxFilter,
    PatchFilter,
    ShareFilter,
    parse_filter,
)
from napari_patchset.patching.filters.pixel_metrics import Metric, Pixels
from napari_patchset.source import SourceInfo

REST = "rest of "
"""Prefix of the column that has what a float can't hold of a metric: the two are added exactly."""


class Measurement(NamedTuple):
    """The measurement of one channel: column, index of the channel, and function."""

    column: str
    channel: int
    measure: Callable[[Pixels], Metric]


def measurements(
    filters: Sequence[PatchFilter], sources: Sequence[SourceInfo]
) -> list[Measurement]:
    """Return everything that filters measure in sources, each column once.

    The largest pixel of integers of 64 bits has a second column, see `REST`.

    Raises
    ------
    ArgumentError
        If there is no such channel.
    """
    first, by_column = sources[0], dict[str, Measurement]()
    is_wide = any(source.dtype in ("int64", "uint64") for source in sources)
    for each in filters:
        for channel, column in each.columns(first.channels, first.filter_channels).items():
            by_column[column] = Measurement(column, channel, each.measure)
            if is_wide and isinstance(each, MaxFilter):
                by_column[REST + column] = Measurement(REST + column, channel, each.measure_rest)
    return list(by_column.values())


def share_measurements(classes: Sequence[str]) -> list[Measurement]:
    """Return the measurement of the share of each class, whose channels are the classes."""
    if not classes:
        return []
    shares = ShareFilter(channels=tuple(classes), above=0)
    return [Measurement(shares.column(name), i, shares.measure) for i, name in enumerate(classes)]


def metric_columns(
    filters: Sequence[PatchFilter], sources: Sequence[SourceInfo], classes: Sequence[str] = ()
) -> list[str]:
    """Return the columns of all metrics, each once, sorted: those that filters need, and shares.

    Parameters
    ----------
    classes : sequence of str
        The classes of the annotations, each of whose shares is measured.
    """
    measured = [*measurements(filters, sources), *share_measurements(classes)]
    return sorted({each.column for each in measured})


def check_filters(filters: Sequence[PatchFilter], sources: Sequence[SourceInfo]) -> None:
    """Refuse filters that can't measure the patches, before any patch is read.

    Raises
    ------
    ArgumentError
        If a channel does not exist, or the pixel type has no range of grey values.
    """
    metric_columns(filters, sources)
    for each in filters:
        each.measure(np.zeros((1, 1, 1), sources[0].dtype))


def other_channels(
    filters: Sequence[PatchFilter], channels: Sequence[str], names: Sequence[str]
) -> list[int]:
    """Return the indices of channels that filters name although they are not exported.

    Parameters
    ----------
    channels, names : sequence of str
        The names of the exported channels, and of all of them.

    Raises
    ------
    ArgumentError
        If several channels have such a name.
    """
    others = list[int]()
    of_images = (each for each in filters if not isinstance(each, ShareFilter))
    for channel in (channel for each in of_images for channel in each.channels or ()):
        is_exported = str(channel) in channels or channel in range(len(channels))
        if not is_exported and str(channel) in names:
            (index,) = channel_indices(names, [str(channel)])
            others += [] if index in others else [index]
    return others


_COLUMN = re.compile(
    rf"(?P<rest>{REST})?(?P<kind>[a-z]+)(?:\((?P<settings>[^)]*)\))?(?:_(?P<channel>.*))?",
    re.DOTALL,
)


def kind_word(kind: str) -> str:
    """Return what people call a metric: "contrast" for "std"."""
    return FILTERS[kind].word or kind


def column_words(column: str) -> str:
    """Return what a column of the table holds: "contrast of DAPI" for "std_DAPI"."""
    match = _COLUMN.fullmatch(column)
    if match is None or match["kind"] not in FILTERS:
        return column
    settings = f" ({match['settings'].replace(',', ', ')})" if match["settings"] else ""
    channel = f" of {match['channel']}" if match["channel"] else ""
    return f"{match['rest'] or ''}{kind_word(match['kind'])}{settings}{channel}"


def filter_words(rule: PatchFilter) -> str:
    """Return what a filter keeps: "contrast of DAPI > p10"."""
    settings = rule.model_dump(exclude=set(PatchFilter.model_fields), exclude_none=True)
    stated = ", ".join(f"{name}={_number(value)}" for name, value in settings.items())
    names = [f"#{each}" if isinstance(each, int) else each for each in rule.channels or ()]
    joined = (" and " if rule.match == "all" else " or ").join(names)
    joined = joined or ("every channel" if rule.match == "all" else "")
    word = f"{kind_word(rule.kind)}{f' ({stated})' if stated else ''}"
    measured = f"{word} of {joined}" if joined else word
    if rule.below is None:
        return f"{measured} > {_number(rule.above)}"
    low = "" if rule.above is None else f"{_number(rule.above)} < "
    return f"{low}{measured} < {_number(rule.below)}"


def limit_words(limit: str) -> str:
    """Return what people call a limit that is no number: "lowest 10 %" for "p10"."""
    return "automatic" if limit == "otsu" else f"lowest {limit.removeprefix('p')} %"


def reason_words(reason: str) -> str:
    """Return the words for the reason, as the table has it, why a candidate is rejected."""
    with suppress(ArgumentError):
        return filter_words(parse_filter(reason))
    return reason


def _number(value: float | str | None) -> str:
    return value if isinstance(value, str) else f"{value:g}"
