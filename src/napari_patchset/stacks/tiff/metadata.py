"""Channels and pixel size out of ImageJ's description and the resolution tags."""

from collections.abc import Mapping, Sequence
from typing import Any

from tifffile import TiffPage

from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import (
    Channel,
    ImageMetadata,
    micrometres,
    number,
    positive,
    seconds,
)
from napari_patchset.stacks.tiff.ome import OmeImage

_SAMPLES = {3: "RGB", 4: "RGBA"}
_SAMPLE_COLORS = {"R": "#ff0000", "G": "#00ff00", "B": "#0000ff"}
_COLOR_PHOTOMETRICS = (2, 6)
_RESOLUTION_TAGS = {"x": 282, "y": 283}
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
_LARGEST_PIXEL = 100.0
"""In micrometres; above it is what programs write that do not know: 72 dpi, 1 pixel per inch."""


def ome_metadata(image: OmeImage, page: TiffPage, n_channels: int) -> ImageMetadata:
    """Describe an image by its OME-XML."""
    named = [
        Channel(name or f"Channel {i}", color) for i, (name, color) in enumerate(image.channels)
    ]
    channels = _with_samples(named, page, n_channels)
    return ImageMetadata(channels, image.pixel_size, image.time_step)


def imagej_metadata(
    found: Mapping[str, Any], page: TiffPage, axes: str, n_channels: int
) -> ImageMetadata:
    """Describe an image by what ImageJ wrote."""
    unit = str(found.get("unit", ""))
    steps = {axis: _step(page, axis, unit) for axis in "yx"}
    if "Z" in axes:
        steps["z"] = positive(micrometres(found.get("spacing"), unit))
    interval = seconds(found.get("finterval"), str(found.get("tunit", "s")))
    return ImageMetadata(
        _with_samples(_imagej_channels(found, axes, n_channels), page, n_channels),
        PixelSize(**steps),
        positive(interval),
    )


def plain_metadata(page: TiffPage, n_channels: int) -> ImageMetadata:
    """Describe an image by its resolution tags alone."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit), "")
    steps = {axis: _step(page, axis, unit) for axis in "yx"}
    known = {axis: step for axis, step in steps.items() if step and step <= _LARGEST_PIXEL}
    return ImageMetadata(_with_samples([], page, n_channels), PixelSize(**known))


def _step(page: TiffPage, axis: str, unit: str) -> float | None:
    """Turn a resolution tag, pixels per unit, into the extent of a pixel."""
    value = page.tags.valueof(_RESOLUTION_TAGS[axis])
    if not isinstance(value, tuple) or len(value) != 2 or not value[0]:
        return None
    return positive(micrometres(value[1] / value[0], unit))


def _imagej_channels(found: Mapping[str, Any], axes: str, n_channels: int) -> list[Channel]:
    names = _imagej_names(found.get("Labels", ()), axes, n_channels)
    ranges = found.get("Ranges") or (found.get("min"), found.get("max"))
    luts = found.get("LUTs", ())
    return [
        Channel(name, _lut_color(luts, i), _limits(ranges[2 * i : 2 * i + 2]))
        for i, name in enumerate(names)
    ]


def _imagej_names(labels: Sequence[str], axes: str, n_channels: int) -> list[str]:
    """Take the labels of the first planes as names, if they repeat from channel to channel."""
    default = [f"Channel {i}" for i in range(n_channels)]
    if not axes.endswith("CYX") or len(set(labels[:n_channels])) < n_channels:
        return default
    repeats = all(label == labels[i % n_channels] for i, label in enumerate(labels))
    return list(labels[:n_channels]) if repeats else default


def _lut_color(luts: Sequence[Any], index: int) -> str | None:
    """Give the colour of the brightest grey value."""
    if index >= len(luts) or getattr(luts[index], "shape", None) != (3, 256):
        return None
    return "#{:02x}{:02x}{:02x}".format(*luts[index][:, -1].tolist())


def _limits(span: Sequence[Any]) -> tuple[float, float] | None:
    low, high = map(number, span) if len(span) == 2 else (None, None)
    return (low, high) if low is not None and high is not None and low < high else None


def _with_samples(named: list[Channel], page: TiffPage, n_channels: int) -> tuple[Channel, ...]:
    """Multiply the channels that are described by the samples of a pixel."""
    samples = page.shaped[0] * page.shaped[4]
    letters = _SAMPLES.get(samples) if page.photometric in _COLOR_PHOTOMETRICS else None
    if len(named) == n_channels and (letters is None or n_channels != samples):
        return tuple(named)
    if letters is None or n_channels % samples:
        return tuple(Channel(f"Channel {i}") for i in range(n_channels))
    n_groups = n_channels // samples
    groups = named if len(named) == n_groups else [Channel(f"Channel {i}") for i in range(n_groups)]
    return tuple(
        Channel(f"{group.name} {x}" if n_groups > 1 else x, _SAMPLE_COLORS.get(x))
        for group in groups
        for x in letters
    )
