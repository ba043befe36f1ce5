"""Lengths in micrometres and times in seconds, by the names of units in CZI, TIFF and OME-Zarr."""

import math
from collections.abc import Mapping
from typing import Any

_SI_PREFIXES = {
    **{"yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9},
    **{"micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0, "hecto": 2, "kilo": 3},
    **{"mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24},
}

_MICRO_SYMBOLS = ("u", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}", "\\u00b5", "\\u03bc")
"""The last ones are ImageJ's escapes of the signs."""

_MICROMETRES: Mapping[str, float] = {
    **{f"{prefix}meter": 10.0 ** (power + 6) for prefix, power in _SI_PREFIXES.items()},
    **{f"{symbol}m": 1.0 for symbol in _MICRO_SYMBOLS},
    **{"pm": 1e-6, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6},
    **{"micron": 1.0, "å": 1e-4, "angstrom": 1e-4},
    **{"in": 25_400.0, "inch": 25_400.0, "ft": 304_800.0, "foot": 304_800.0, "yard": 914_400.0},
}
_SECONDS: Mapping[str, float] = {
    **{f"{prefix}second": 10.0**power for prefix, power in _SI_PREFIXES.items()},
    **{f"{symbol}s": 1e-6 for symbol in _MICRO_SYMBOLS},
    **{"ns": 1e-9, "ms": 1e-3, "msec": 1e-3, "s": 1.0, "sec": 1.0},
    **{"min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "day": 86_400.0},
}


def micrometres(value: Any, unit: str | None) -> float | None:
    """Convert a length; None if it is not a number, or the unit not one of length ("pixel")."""
    return _convert(value, _MICROMETRES.get(_unit_name(unit)))


def seconds(value: Any, unit: str | None) -> float | None:
    """Convert a time; None if it is not a number, or the unit not one of time."""
    return _convert(value, _SECONDS.get(_unit_name(unit)))


def number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def positive(value: float | None) -> float | None:
    """Return a valid size or step, None for anything else."""
    return value if value and value > 0 else None


_SHORTEST_PLURAL = 4
"""Letters of an abbreviation at most, of which an s is no plural: "ms", "msec"."""


def _unit_name(unit: str | None) -> str:
    """Return a name as the tables have it: American, in the singular, in small letters."""
    name = (unit or "").strip().lower().replace("metre", "meter")
    return name.removesuffix("s") if len(name) > _SHORTEST_PLURAL else name


def _convert(value: Any, factor: float | None) -> float | None:
    result = number(value)
    return None if result is None or factor is None else result * factor
