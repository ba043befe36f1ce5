"""Lengths in micrometres and times in seconds, by the names of units that OME-Zarr uses."""

_PREFIXES = {
    **{"yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9},
    **{"micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0, "hecto": 2, "kilo": 3},
    **{"mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24},
}
_MICROMETRES = {
    **{f"{prefix}meter": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()},
    **{"nm": 1e-3, "um": 1.0, "\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0},
    **{"micron": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "angstrom": 1e-4},
    **{"inch": 25_400.0, "foot": 304_800.0, "yard": 914_400.0},
}
_SECONDS = {
    **{f"{prefix}second": 10.0**power for prefix, power in _PREFIXES.items()},
    **{"ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0},
    **{"minute": 60.0, "hour": 3600.0, "day": 86_400.0},
}


def in_micrometres(value: float | None, unit: str | None) -> float | None:
    """Convert a length; None for a number without a unit of length, which says nothing."""
    name = (unit or "").replace("metre", "meter")
    factor = _MICROMETRES.get(name, _MICROMETRES.get(name.lower()))
    return None if value is None or factor is None else value * factor


def in_seconds(value: float | None, unit: str | None) -> float | None:
    """Convert a time; None for a number without a unit of time."""
    factor = _SECONDS.get((unit or "").lower())
    return None if value is None or factor is None else value * factor
