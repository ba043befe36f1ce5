"""Metrics in the words of a microscopist, for all that a person reads: "contrast of DAPI > p10".

Plans, tables and commands have the kinds and columns (`std[DAPI]>p10`, `std_DAPI`); the word of a
kind stands in its class, see `filters`.
"""

import re
from contextlib import suppress

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters import FILTERS, PatchFilter, parse_filter
from napari_patchset.patching.measurements import REST

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


def reason_words(reason: str) -> str:
    """Return why a candidate is rejected, of its reason in the table."""
    with suppress(ArgumentError):
        return filter_words(parse_filter(reason))
    return reason


def _number(value: float | str | None) -> str:
    return value if isinstance(value, str) else f"{value:g}"
