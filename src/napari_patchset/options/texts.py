"""How the values of options are written, and read again."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.regions.selection import Range
from napari_patchset.source import ChannelId, SceneId

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def read_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read "64,64".

    Raises
    ------
    ArgumentError
        If these are no numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(f"{option} is {text!r}; give numbers like 64,64.") from None


def read_ranges(text: str) -> dict[str, Range]:
    """Read "Z=5:25,T=:10".

    Raises
    ------
    ArgumentError
        If these are no ranges.
    """
    ranges = {}
    for part in text.split(","):
        axis, _, span = part.partition("=")
        first, colon, last = span.partition(":")
        try:
            start, stop = (int(n) if n.strip() else None for n in (first, last))
        except ValueError:
            colon = ""
        if not colon:
            raise ArgumentError(f"--select is {text!r}; give ranges like Z=5:25,T=:10.")
        ranges[axis.strip().upper()] = start, stop
    return ranges


def read_channels(text: str) -> tuple[ChannelId, ...]:
    """Read "0,DAPI": decimal digits are an index, all else is a name."""
    return tuple(_number_or_name(part.strip()) for part in text.split(","))


def read_scene(text: str) -> SceneId | Literal["all"]:
    """Read a scene's id; decimal digits are a number."""
    return _number_or_name(text)


def read_bytes(option: str, text: str) -> int:
    """Read "512MiB" or "1.5 GB": whole bytes.

    Raises
    ------
    ArgumentError
        If this is no number with a unit.
    """
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", text.strip().lower())
    if not found or found[2] not in units:
        raise ArgumentError(
            f"{option} is {text!r}; give a number and one of {', '.join(_UNITS)}, like 512MiB."
        )
    return int(float(found[1]) * units[found[2]])


def write_bytes(n: int) -> str:
    """Write what `read_bytes` reads, in MiB rounded down."""
    return f"{n // _UNITS['MiB']}MiB"


def write_values(values: Iterable[object]) -> str:
    """Write what `read_numbers` and `read_channels` read."""
    return ",".join(map(str, values))


def write_ranges(ranges: Mapping[str, Range]) -> str:
    """Write what `read_ranges` reads."""
    ends = {axis: ["" if n is None else n for n in pair] for axis, pair in ranges.items()}
    return ",".join(f"{axis}={first}:{stop}" for axis, (first, stop) in ends.items())


def _number_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
