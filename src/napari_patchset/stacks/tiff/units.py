"""Lengths in micrometres and times in seconds, whatever a file calls their units."""

import math
from collections.abc import Mapping
from typing import Any

_MICROMETRES: Mapping[str, float] = {
    **dict.fromkeys(("µm", "μm", "um", "\\u00b5m", "micron", "microns", "micrometer"), 1.0),
    **{"pm": 1e-6, "å": 1e-4, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3},
    **{"cm": 1e4, "centimeter": 1e4, "dm": 1e5, "m": 1e6, "meter": 1e6},
    **{"in": 25_400.0, "inch": 25_400.0, "ft": 304_800.0},
}
_SECONDS: Mapping[str, float] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **{"ns": 1e-9, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ms": 1e-3, "msec": 1e-3},
    **{"min": 60.0, "h": 3600.0, "hour": 3600.0},
}


def number(value: Any) -> float | None:
    """Read a finite number; None for anything else."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def micrometres(value: Any, unit: str) -> float | None:
    """Convert a length; None if it is no number or the unit no length ("pixel")."""
    return _scaled(value, _MICROMETRES.get(unit.strip().lower()))


def seconds(value: Any, unit: str) -> float | None:
    """Convert a time; None if it is no number or the unit no time."""
    return _scaled(value, _SECONDS.get(unit.strip().lower()))


def positive(value: float | None) -> float | None:
    """Keep what can be a size or a step."""
    return value if value and value > 0 else None


def _scaled(value: Any, factor: float | None) -> float | None:
    found = number(value)
    return None if found is None or factor is None else found * factor
