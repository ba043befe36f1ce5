"""A filter as a line of text: "std>5", "std[DAPI,GFP]>p10", "0.1<mask<0.9", "max[all]>otsu".

`parse_fields` reads the fields of a filter from its text, `format_filter` writes them; which kinds,
settings and limits there are is left to the models in `patch_filters`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from napari_patchset.channels import ChannelId, format_channels, parse_channels
from napari_patchset.errors import ArgumentError

_LIMIT = r"[-+.\w]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_FILTER = re.compile(
    rf"\s*(?:(?P<low>{_LIMIT})\s*<)?\s*(?P<kind>[a-z]+)\s*(?:\((?P<settings>[^)]*)\))?\s*"
    rf"(?:\[(?P<channels>(?:{_QUOTED}|[^\]\"])*)\])?\s*(?P<sign>[<>])\s*(?P<limit>{_LIMIT})\s*"
)
_ALL = "all"

Fields = dict[str, Any]


def parse_fields(text: str) -> Fields:
    """Return the fields of a filter.

    Raises
    ------
    ArgumentError
        If the text has another form.
    """
    match = _FILTER.fullmatch(text)
    if not match or (match["low"] and match["sign"] == ">"):
        comma = "; decimals have a point" if re.search(r"[<>]\s*\d+,\d", text) else ""
        raise ArgumentError(
            f"{text!r} is not a filter; write it like std>5, std[DAPI]>p10, "
            f"0.1<mask<0.9 or max>otsu{comma}."
        )
    side = "above" if match["sign"] == ">" else "below"
    fields: Fields = {"kind": match["kind"], side: _parse_value(match["limit"])}
    if match["low"]:
        fields["above"] = _parse_value(match["low"])
    settings = _parse_settings(match["settings"] or "", text)
    return fields | settings | _parse_channels(match["channels"])


def format_filter(
    metric: str,
    channels: Sequence[ChannelId] | None,
    match: str,
    above: float | str | None,
    below: float | str | None,
) -> str:
    """Format a filter as `parse_fields` reads it."""
    names = ",".join(_format_channel(channel) for channel in channels or ())
    selected = f"{_ALL} {names}".strip() if match == _ALL else names
    measured = f"{metric}[{selected}]" if selected else metric
    if below is None:
        return f"{measured}>{format_limit(above)}"
    return f"{'' if above is None else f'{format_limit(above)}<'}{measured}<{format_limit(below)}"


def format_metric(kind: str, settings: Mapping[str, float]) -> str:
    """Format a metric and its settings: "std", "shannon(bins=64)"."""
    pairs = ",".join(f"{name}={format_limit(value)}" for name, value in settings.items())
    return f"{kind}({pairs})" if pairs else kind


def _parse_settings(settings: str, text: str) -> Fields:
    pairs = [pair.partition("=") for pair in settings.split(",") if pair.strip()]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ArgumentError(f"{text!r}: {wrong[0]!r} is not a setting; write it like bins=64.")
    return {name.strip(): _parse_value(value.strip()) for name, _, value in pairs}


def _parse_channels(text: str | None) -> Fields:
    if text is None:
        return {}
    first, _, rest = text.strip().partition(" ")
    fields: Fields = {}
    if first == _ALL:
        fields, text = {"match": _ALL}, rest
    channels = list(parse_channels(text))
    return fields | ({"channels": channels} if channels else {})


def channel_text(text: str) -> str:
    """Return the channels in the text of a filter, "" if it names none; classes are none."""
    match = _FILTER.fullmatch(text)
    return (match["channels"] if match and match["kind"] != "share" else None) or ""


def _format_channel(channel: ChannelId) -> str:
    """Format a channel, its name in quotes where it would be read as something else."""
    if isinstance(channel, str) and channel.split()[:1] == [_ALL]:
        return json.dumps(channel)
    return format_channels([channel])


def _parse_value(text: str) -> float | str:
    for parse in (int, float):  # an integer may have more digits than a float holds
        with suppress(ValueError):
            return parse(text)
    return text


def format_limit(value: float | str | None) -> str:
    """Format a limit or a setting, with the shortest digits that are read as the same number."""
    return value if isinstance(value, str) else repr(value).removesuffix(".0")
