"""Channels, pixel size and time step of a TIFF: by OME-XML, ImageJ's description, or tags alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from tifffile import TiffPage

from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import Channel, ImageMetadata
from napari_patchset.stacks.tiff.ome import OmeImage
from napari_patchset.stacks.units import micrometres, number, positive, seconds

_SAMPLE_NAMES = {3: "RGB", 4: "RGBA"}
_SAMPLE_COLORS = {"R": "#ff0000", "G": "#00ff00", "B": "#0000ff"}
_COLOR_PHOTOMETRICS = (2, 6)
"""RGB and YCbCr."""

_RESOLUTION_TAGS = {"x": 282, "y": 283}
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
_MAX_PIXEL_SIZE = 100.0
"""Micrometres; larger ones are placeholders of programs: 72 dpi, 1 pixel per inch."""


def ome_metadata(image: OmeImage, page: TiffPage, n_channels: int) -> ImageMetadata:
    """Return the metadata of an image that has OME-XML."""
    described = [
        Channel(name or f"Channel {i}", color) for i, (name, color) in enumerate(image.channels)
    ]
    channels = _with_samples(described, page, n_channels)
    return ImageMetadata(channels, image.pixel_size, image.time_step)


def imagej_metadata(
    described: Mapping[str, Any], page: TiffPage, axes: str, n_channels: int
) -> ImageMetadata:
    """Return the metadata of an image that ImageJ wrote, from tifffile's `imagej_metadata`."""
    unit = str(described.get("unit", ""))
    sizes = {axis: _pixel_size(page, axis, unit) for axis in "yx"}
    if "Z" in axes:
        sizes["z"] = positive(micrometres(described.get("spacing"), unit))
    time_step = seconds(described.get("finterval"), str(described.get("tunit", "s")))
    channels = _imagej_channels(described, axes, n_channels)
    return ImageMetadata(
        _with_samples(channels, page, n_channels), PixelSize(**sizes), positive(time_step)
    )


def plain_metadata(page: TiffPage, n_channels: int) -> ImageMetadata:
    """Return the metadata of an image that has only resolution tags."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit), "")
    sizes = {axis: _pixel_size(page, axis, unit) for axis in "yx"}
    plausible = {axis: size for axis, size in sizes.items() if size and size <= _MAX_PIXEL_SIZE}
    return ImageMetadata(_with_samples([], page, n_channels), PixelSize(**plausible))


def _pixel_size(page: TiffPage, axis: str, unit: str) -> float | None:
    """Convert a resolution tag, pixels per unit as a fraction, to micrometres per pixel."""
    value = page.tags.valueof(_RESOLUTION_TAGS[axis])
    if not isinstance(value, tuple) or len(value) != 2 or not value[0]:
        return None
    return positive(micrometres(value[1] / value[0], unit))


def _imagej_channels(described: Mapping[str, Any], axes: str, n_channels: int) -> list[Channel]:
    names = _imagej_names(described.get("Labels", ()), axes, n_channels)
    ranges = described.get("Ranges") or (described.get("min"), described.get("max"))
    luts = described.get("LUTs", ())
    return [
        Channel(name, _lut_color(luts, i), _contrast_limits(ranges[2 * i : 2 * i + 2]))
        for i, name in enumerate(names)
    ]


def _imagej_names(labels: Sequence[str], axes: str, n_channels: int) -> list[str]:
    """Return the labels of the first planes if all labels repeat from channel to channel."""
    default = [f"Channel {i}" for i in range(n_channels)]
    if not axes.endswith("CYX") or len(set(labels[:n_channels])) < n_channels:
        return default
    repeats = all(label == labels[i % n_channels] for i, label in enumerate(labels))
    return list(labels[:n_channels]) if repeats else default


def _lut_color(luts: Sequence[Any], index: int) -> str | None:
    """Return the colour of the brightest grey value in a lookup table."""
    if index >= len(luts) or getattr(luts[index], "shape", None) != (3, 256):
        return None
    return "#{:02x}{:02x}{:02x}".format(*luts[index][:, -1].tolist())


def _contrast_limits(limits: Sequence[Any]) -> tuple[float, float] | None:
    low, high = map(number, limits) if len(limits) == 2 else (None, None)
    return (low, high) if low is not None and high is not None and low < high else None


def _with_samples(described: list[Channel], page: TiffPage, n_channels: int) -> tuple[Channel, ...]:
    """Combine the described channels with the samples of a pixel, such as R, G and B."""
    n_samples = page.shaped[0] * page.shaped[4]
    is_color = page.photometric in _COLOR_PHOTOMETRICS
    samples = _SAMPLE_NAMES.get(n_samples) if is_color else None
    if len(described) == n_channels and (samples is None or n_channels != n_samples):
        return tuple(described)
    if samples is None or n_channels % n_samples:
        return tuple(Channel(f"Channel {i}") for i in range(n_channels))
    n_groups = n_channels // n_samples
    if len(described) != n_groups:
        described = [Channel(f"Channel {i}") for i in range(n_groups)]
    return tuple(
        Channel(f"{group.name} {name}" if n_groups > 1 else name, _SAMPLE_COLORS.get(name))
        for group in described
        for name in samples
    )
