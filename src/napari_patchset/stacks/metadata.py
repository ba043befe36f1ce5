"""Metadata of an image: pixel size, channels, scenes, label values, and the units they come in.

The formats' own modules fill these classes from XML, tags and attributes; what a file does not
record is None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np

from napari_patchset.errors import ArgumentError
from napari_patchset.source import FILE, PixelSize, Rect, SceneId, SourceInfo
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.protocol import ImageStack


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as the file describes it."""

    name: str
    """Its name, or "Channel N" where the file has none."""
    color: str | None = None
    """"#rrggbb"."""
    contrast_limits: tuple[float, float] | None = None
    """Grey values displayed as black and white."""


SAMPLE_COLORS = {"R": "#ff0000", "G": "#00ff00", "B": "#0000ff"}
"""The colour of a channel that is a sample of colour pixels."""


_FALLBACK_COLORS = ("#00ff00", "#ff00ff", "#0060ff", "#c0c0c0", "#80ff00", "#ff0080")
"""Unlike the colours that patches are framed in, which must be seen on each of them."""


def channel_colors(channels: Sequence[Channel]) -> list[str]:
    """Return a colour, "#rrggbb", for each channel: its own, white if alone, or a fallback."""
    if len(channels) == 1:
        return [channels[0].color or "#ffffff"]
    spare = iter(_FALLBACK_COLORS * len(channels))
    return [channel.color or next(spare) for channel in channels]


def default_channels(n: int) -> tuple[Channel, ...]:
    """Return channels of which the file says nothing: "Channel 0", "Channel 1", ..."""
    return tuple(Channel(f"Channel {i}") for i in range(n))


def sample_channel(name: str, sample: str, is_only: bool) -> Channel:
    """Return the channel of a colour sample: "R", or "EGFP R" where EGFP is not the only one."""
    return Channel(sample if is_only else f"{name} {sample}", SAMPLE_COLORS.get(sample))


@dataclass(frozen=True, slots=True)
class LabelValues:
    """Colours and properties of the values of a label image."""

    colors: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Red, green, blue and alpha of each value, 0 to 1."""
    properties: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Properties of each value by name."""


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """Channels and pixel size of an image, and its values if it is a label image."""

    channels: tuple[Channel, ...]
    pixel_size: PixelSize = field(default_factory=PixelSize)
    time_step: float | None = None
    """Seconds between two time points."""
    unitless: Mapping[str, float] = field(default_factory=dict)
    """Size of a pixel along Z, Y, X and T, in a unit that the file does not name."""
    labels: LabelValues | None = None


@dataclass(frozen=True, slots=True)
class SceneSummary:
    """A scene in the list of a file's scenes."""

    id: SceneId | None
    """The file's own id; None if the file has no scenes."""
    name: str
    """As the file names it, else "Scene N"."""
    rect: Rect
    """Position on the stage and size, in pixels."""
    axes: str
    shape: tuple[int, ...]
    """The image's own axes and its size along each."""
    dtype: str
    """NumPy's name of the pixel type."""
    well: str | None = None
    """The name of its well on a plate."""
    center: tuple[float, float] | None = None
    """Its centre on the stage, x and y in micrometres."""

    @property
    def label(self) -> str:
        """Well and name, the latter alone if it begins with the well."""
        is_named = self.well is None or f"{self.name} ".startswith(f"{self.well} ")
        return self.name if is_named else f"{self.well} {self.name}"


MAX_LISTED = 20
"""Scenes or problems named in one message."""


def only_scene(name: object, scenes: Sequence[SceneSummary]) -> SceneId | None:
    """Return the id of a file's only scene; that there are several is an error."""
    if len(scenes) > 1:
        listed = ", ".join(f"{scene.id} ({scene.name})" for scene in scenes[:MAX_LISTED])
        more = ", ..." if len(scenes) > MAX_LISTED else ""
        raise ArgumentError(f"{name} has {len(scenes)} scenes; choose one: {listed}{more}.")
    return scenes[0].id


def find_well(scenes: Sequence[SceneSummary], scene: SceneId | None) -> str | None:
    """Return the well of one of a file's scenes, or of its only one; None if it has none."""
    wells = {summary.id: summary.well for summary in scenes}
    return wells.get(scene, scenes[0].well if len(scenes) == 1 else None)


def parse_pixel_size(value: PixelSize | str | float | Sequence[float]) -> PixelSize:
    """Return a pixel size in micrometres: one number for Y and X, two for Y, X, three for Z, Y, X.

    Raises
    ------
    ArgumentError
        If it has another form, or a number is not positive.
    """
    if isinstance(value, PixelSize):
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        sizes = [float(part) for part in (parts if isinstance(parts, Sequence) else [parts])]
    except (TypeError, ValueError):
        sizes = []
    if not 1 <= len(sizes) <= 3 or not all(0 < size < inf for size in sizes):
        raise ArgumentError(
            f"{value!r} is not a pixel size; give micrometres like 0.2 (Y and X), 0.2,0.2 (Y,X) or "
            "1,0.2,0.2 (Z,Y,X)."
        )
    *z, y, x = sizes * 2 if len(sizes) == 1 else sizes
    return PixelSize(z=z[0] if z else None, y=y, x=x)


def override_metadata(
    stack: Any, pixel_size: PixelSize | None, channel_names: Sequence[str] | None
) -> None:
    """Override metadata of a stack, and of its lower resolutions, with the user's."""
    metadata = image_metadata(stack)
    if channel_names is not None and len(channel_names) != len(metadata.channels):
        raise ArgumentError(
            f"{stack.source}: {len(channel_names)} channel names are given "
            f"({', '.join(channel_names)}), but it has {len(metadata.channels)} channels."
        )
    for level in getattr(stack, "levels", (stack,)):
        own = image_metadata(level)
        if channel_names is not None:
            named = zip(own.channels, channel_names, strict=True)
            own = replace(own, channels=tuple(replace(c, name=name) for c, name in named))
        if pixel_size is not None:
            sizes = scaled_pixel_size(pixel_size, stack.data_shape, level.data_shape)
            own = replace(own, pixel_size=sizes, unitless={})
        level.metadata = own


def absent_files(names: Sequence[str], owner: str) -> str:
    """Return the warning that files are absent, "" for none."""
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the file {names[0]!r} of {owner}{more} is not in its folder; what is in it is missing"


def scaled_pixel_size(size: PixelSize, full: Sequence[int], reduced: Sequence[int]) -> PixelSize:
    """Return the pixel size of a lower resolution, from the shapes ...YX of both."""
    y, x = (a / b for a, b in zip(full[-2:], reduced[-2:], strict=True))
    return PixelSize(z=size.z, y=size.y and size.y * y, x=size.x and size.x * x)


def describe(stack: ImageStack, key: str | None = None) -> SourceInfo:
    """Describe a stack without reading its pixels.

    What a stack of the bare protocol lacks is None or empty.

    Parameters
    ----------
    stack : ImageStack
        The stack.
    key : str or None
        Its `content_key`, if known from another scene of the same file.
    """
    axes = getattr(stack, "axes", None)
    return SourceInfo(
        name=str(stack.source).removeprefix(FILE),
        key=key or content_key(stack),
        scene=getattr(stack, "scene", None),
        axes=stack.original_axes,
        shape=tuple(stack.original_data_shape),
        depth_axis="none" if len(stack.data_shape) == 4 else "T" if axes == "SCTYX" else "Z",
        starts={axis: start for axis, start in getattr(stack, "starts", {}).items() if start},
        dtype=np.dtype(stack.data_dtype).name,
        channels=channel_names(stack),
        pixel_size=image_metadata(stack).pixel_size,
        source_pixel_size=getattr(stack, "source_pixel_size", None),
        level=getattr(stack, "level", None),
        block_shape=getattr(stack, "block_shape", None),
        missing=getattr(stack, "missing_planes", frozenset()),
        covered=getattr(stack, "covered", None),
        partial_planes=getattr(stack, "partial_planes", ()),
        rect=getattr(stack, "rect", None),
    )


def channel_names(stack: ImageStack) -> tuple[str, ...]:
    """Return the name of each channel."""
    return tuple(channel.name for channel in image_metadata(stack).channels)


def image_metadata(stack: ImageStack) -> ImageMetadata:
    """Return a stack's metadata, or default channel names if it has none."""
    metadata: ImageMetadata | None = getattr(stack, "metadata", None)
    if metadata is not None:
        return metadata
    return ImageMetadata(default_channels(stack.data_shape[1]))


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
