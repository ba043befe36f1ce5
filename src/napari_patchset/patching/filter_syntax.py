"""A filter as a line of text: "std>5", "std[DAPI,GFP]>p10", "0.1<mask<0.9", "max[all]>otsu".

What a filter holds a metric against: a number, or one that depends on all candidates.
"""

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from napari_patchset.errors import ArgumentError
from napari_patchset.source import ChannelId

_LIMIT = r"[-+.\w]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_FILTER = re.compile(
    rf"\s*(?:(?P<low>{_LIMIT})\s*<)?\s*(?P<kind>[a-z]+)\s*(?:\((?P<settings>[^)]*)\))?\s*"
    rf"(?:\[(?P<channels>(?:{_QUOTED}|[^\]\"])*)\])?\s*(?P<sign>[<>])\s*(?P<limit>{_LIMIT})\s*"
)
_CHANNEL = re.compile(rf'({_QUOTED})|([^,"]+)')
_PLAIN = re.compile(r'[^\s,\[\]"]+(?: [^\s,\[\]"]+)*')
_ALL = "all"

Fields = dict[str, Any]


def format_metric(kind: str, settings: Mapping[str, float]) -> str:
    """Write a metric and its settings: "std", "shannon(bins=64)"."""
    said = ",".join(f"{name}={_number(value)}" for name, value in settings.items())
    return f"{kind}({said})" if said else kind


def format_filter(
    metric: str,
    channels: Sequence[ChannelId] | None,
    match: str,
    above: float | str | None,
    below: float | str | None,
) -> str:
    """Write a filter as `parse_fields` reads it."""
    names = ",".join(_channel(channel) for channel in channels or ())
    chosen = f"{_ALL} {names}".strip() if match == _ALL else names
    looked_at = f"{metric}[{chosen}]" if chosen else metric
    if below is None:
        return f"{looked_at}>{_number(above)}"
    return f"{'' if above is None else f'{_number(above)}<'}{looked_at}<{_number(below)}"


def parse_fields(text: str) -> Fields:
    """Read the fields of a filter.

    Raises
    ------
    ArgumentError
        If the text has another form.
    """
    found = _FILTER.fullmatch(text)
    if not found or (found["low"] and found["sign"] == ">"):
        raise ArgumentError(
            f"{text!r} is no filter; write it like std>5, std[DAPI]>p10, 0.1<mask<0.9 or max>otsu."
        )
    side = "above" if found["sign"] == ">" else "below"
    fields: Fields = {"kind": found["kind"], side: _value(found["limit"])}
    if found["low"]:
        fields["above"] = _value(found["low"])
    return fields | _settings(found["settings"] or "", text) | _channels(found["channels"])


def _settings(text: str, of: str) -> Fields:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ArgumentError(f"{of!r}: {wrong[0]!r} is no setting; write it like bins=64.")
    return {name.strip(): _value(value.strip()) for name, _, value in pairs}


def _channels(text: str | None) -> Fields:
    if text is None:
        return {}
    first, _, rest = text.strip().partition(" ")
    match: Fields = {}
    if first == _ALL:
        match, text = {"match": _ALL}, rest
    found = [_read_channel(quoted, plain.strip()) for quoted, plain in _CHANNEL.findall(text)]
    return match | ({"channels": found} if found else {})


def _read_channel(quoted: str, plain: str) -> ChannelId:
    if quoted:
        return str(json.loads(quoted))
    return int(plain) if plain.isdecimal() else plain


def _channel(channel: ChannelId) -> str:
    """Write a channel, its name in quotes where it would be read as something else."""
    if isinstance(channel, int):
        return str(channel)
    plain = _PLAIN.fullmatch(channel) and not channel.isdecimal() and channel.split()[0] != _ALL
    return channel if plain else json.dumps(channel)


def _number(value: float | str | None) -> str:
    """Write a limit or a setting; the shortest digits that give the same number."""
    return value if isinstance(value, str) else repr(value).removesuffix(".0")


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


OTSU_BINS = 256
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")


def _checked(limit: float | str) -> float | str:
    if isinstance(limit, str):
        found = _PERCENTILE.fullmatch(limit)
        if limit != "otsu" and not (found and float(found[1]) <= 100):
            raise ValueError(f"{limit!r} is no limit; give a number, p0 to p100, or otsu")
    elif not isfinite(limit):
        raise ValueError(f"the limit {limit} is not finite")
    return limit


Limit = Annotated[float | str, AfterValidator(_checked)]
"""A number; "p10", that percentile of the metric; or "otsu", Otsu's threshold of the metric."""


def resolve(limit: float | str, metric: NDArray[np.float64]) -> float:
    """Give a limit as a number; NaN if it depends on a metric that no candidate has.

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
        return otsu(known)
    return float(np.percentile(known, float(limit[1:])))


def otsu(values: NDArray[Any]) -> float:
    """Find the threshold that parts values into the two classes that lie furthest apart.

    Otsu (1979), doi:10.1109/TSMC.1979.4310076, on a histogram of 256 bins from the least to the
    greatest value; the centre of the last bin of the lower class, as scikit-image gives it.
    """
    low, high = float(values.min()), float(values.max())
    # Closer than this, floats are too coarse for that many bins; above the least is one class.
    if high - low <= OTSU_BINS * np.spacing(max(abs(low), abs(high))):
        return low
    counts, edges = np.histogram(values, bins=OTSU_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below, total = counts.cumsum(), (counts * centres).cumsum()
    n_low, n_high = below[:-1], below[-1] - below[:-1]
    apart = total[:-1] / n_low - (total[-1] - total[:-1]) / n_high
    return float(centres[np.argmax(n_low * n_high * apart**2)])
