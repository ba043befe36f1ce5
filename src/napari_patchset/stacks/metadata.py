"""What a file says about its pixels: size, channels, scenes. What it does not say is None.

Describe a stack as a SourceInfo, from as much of the optional protocol as it has.

Tell the same content from another, at a cost that does not grow with the file.

Lengths in micrometres and times in seconds, whatever a file calls their units.

Lengths in micrometres and times in seconds, by the names of units that OME-Zarr uses.
"""

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import DepthAxis
from napari_patchset.source import PixelSize, Rect, SceneId, SourceInfo, local_path
from napari_patchset.stacks.cache import OpenFiles
from napari_patchset.stacks.protocol import ImageStack


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as the file describes it.

    Attributes
    ----------
    name : str
        Its name, or "Channel N" where the file has none.
    color : str or None
        "#rrggbb".
    contrast_limits : tuple of float or None
        Grey values shown as black and white.
    """

    name: str
    color: str | None = None
    contrast_limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class LabelValues:
    """What a file says of the values of a label image.

    Attributes
    ----------
    colors : mapping of int to tuple of float
        Red, green, blue and alpha of a value, 0 to 1.
    properties : mapping of int to mapping
        What is known of a value, by name.
    """

    colors: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    properties: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """Describe the channels and the pixel size of an image, and its values where it is labels."""

    channels: tuple[Channel, ...]
    pixel_size: PixelSize = field(default_factory=PixelSize)
    time_step: float | None = None
    """Seconds between two time points."""
    labels: LabelValues | None = None


@dataclass(frozen=True, slots=True)
class SceneSummary:
    """One scene of a file: enough to choose it by.

    Attributes
    ----------
    id : int, str or None
        The file's own id; None where the file has no scenes.
    name : str
        As the file names it, else "Scene N".
    rect : Rect
        Position on the stage and size, in pixels.
    axes, shape : str, tuple of int
        Its axes and the size along each.
    dtype : str
        NumPy's name of the pixel type.
    well : str or None
        The well of a plate that it lies in.
    center : tuple of float or None
        Its centre on the stage, x and y in micrometres.
    """

    id: SceneId | None
    name: str
    rect: Rect
    axes: str
    shape: tuple[int, ...]
    dtype: str
    well: str | None = None
    center: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """Its name, after that of the well where the two differ."""
        return self.name if self.well in (None, self.name) else f"{self.well} {self.name}"


_ENDS = 64 * 1024
_BLOCK = 4 * 1024
_N_BLOCKS = 16
_AT_ONCE = 9
"""Parts that are read at once: half of them."""


def file_key(path: Path) -> str:
    """Fingerprint a file: its size, both ends, and blocks evenly spread in between.

    A copy at another path has the same key. At most 192 KiB are read, so a change that leaves
    the size and all of these bytes alone is not seen; the checksums of a patch set see it.
    """
    path = path.absolute()
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    with closing(OpenFiles([path])) as files, ThreadPoolExecutor(_AT_ONCE, "fingerprint") as pool:
        for part in pool.map(lambda span: files.read(path, *span), _spans(size)):
            digest.update(part)
    return digest.hexdigest()


def _spans(size: int) -> list[tuple[int, int]]:
    """Give position and length of each part that is read."""
    inner = np.linspace(_ENDS, max(size - _ENDS, _ENDS), _N_BLOCKS, dtype=np.int64).tolist()
    last = max(size - _ENDS, 0)
    spans = (0, _ENDS), *((start, _BLOCK) for start in inner), (last, _ENDS)
    return [(start, max(0, min(length, size - start))) for start, length in spans]


def array_key(data: NDArray[Any]) -> str:
    """Fingerprint an array: its type, shape and every byte."""
    digest = hashlib.blake2b(f"{data.dtype.str}{data.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(data).data)
    return digest.hexdigest()


def describe(stack: ImageStack, key: str | None = None) -> SourceInfo:
    """Say what is known of a stack without its pixels.

    A stack with the bare protocol works too: what it does not offer is None or empty.

    Parameters
    ----------
    stack : ImageStack
        The stack.
    key : str or None
        Its `content_key`, where that is known from another scene of the same file.
    """
    return SourceInfo(
        name=local_path(str(stack.source)),
        key=key or content_key(stack),
        scene=getattr(stack, "scene", None),
        axes=stack.original_axes,
        shape=tuple(stack.original_data_shape),
        depth_axis=_depth_axis(stack),
        starts={axis: start for axis, start in getattr(stack, "starts", {}).items() if start},
        dtype=np.dtype(stack.data_dtype).name,
        channels=channel_names(stack),
        pixel_size=image_metadata(stack).pixel_size,
        block_shape=getattr(stack, "block_shape", None),
        missing=getattr(stack, "missing_planes", frozenset()),
        covered=getattr(stack, "covered", None),
        rect=getattr(stack, "rect", None),
    )


def channel_names(stack: ImageStack) -> tuple[str, ...]:
    """Give one name for each channel."""
    return tuple(channel.name for channel in image_metadata(stack).channels)


def image_metadata(stack: ImageStack) -> ImageMetadata:
    """Give a stack's metadata, or plain channel names where it has none."""
    found: ImageMetadata | None = getattr(stack, "metadata", None)
    if found is not None:
        return found
    return ImageMetadata(tuple(Channel(f"Channel {i}") for i in range(stack.data_shape[1])))


def content_key(stack: ImageStack) -> str:
    """Fingerprint what a stack shows: the same for a copy of the file at another path."""
    fingerprint = getattr(stack, "fingerprint", None)
    if fingerprint is not None and (key := fingerprint()) is not None:
        return str(key)
    path: Any = getattr(stack, "data_path", stack.source)
    if isinstance(path, Path) and path.is_file():
        return file_key(path)
    n_samples, _, *spatial = stack.data_shape
    zeros = [0] * len(spatial)
    samples = (stack.extract_patch(i, None, zeros, spatial) for i in range(n_samples))
    return array_key(np.stack(list(samples)))


def _depth_axis(stack: ImageStack) -> DepthAxis:
    if len(stack.data_shape) == 4:
        return "none"
    return "T" if getattr(stack, "axes", None) == "SCTYX" else "Z"


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


_PREFIXES = {
    **{"yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9},
    **{"micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0, "hecto": 2, "kilo": 3},
    **{"mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24},
}
_MICROMETRES_UNITS = {
    **{f"{prefix}meter": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()},
    **{"nm": 1e-3, "um": 1.0, "\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0},
    **{"micron": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "angstrom": 1e-4},
    **{"inch": 25_400.0, "foot": 304_800.0, "yard": 914_400.0},
}
_SECONDS_UNITS = {
    **{f"{prefix}second": 10.0**power for prefix, power in _PREFIXES.items()},
    **{"ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0},
    **{"minute": 60.0, "hour": 3600.0, "day": 86_400.0},
}


def in_micrometres(value: float | None, unit: str | None) -> float | None:
    """Convert a length; None for a number without a unit of length, which says nothing."""
    name = (unit or "").replace("metre", "meter")
    factor = _MICROMETRES_UNITS.get(name, _MICROMETRES_UNITS.get(name.lower()))
    return None if value is None or factor is None else value * factor


def in_seconds(value: float | None, unit: str | None) -> float | None:
    """Convert a time; None for a number without a unit of time."""
    factor = _SECONDS_UNITS.get((unit or "").lower())
    return None if value is None or factor is None else value * factor
