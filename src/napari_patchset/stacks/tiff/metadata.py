"""Channels, pixel size and time step of a TIFF, in the formats of various writers.

OME-XML, ImageJ's description, the metadata of a microscope's or slide scanner's own kind of TIFF as
tifffile reads it, or resolution tags alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from tifffile import TiffFile, TiffPage, TiffPageSeries, read_ndtiff_index

from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import (
    Channel,
    ImageMetadata,
    default_channels,
    micrometres,
    number,
    positive,
    sample_channel,
    seconds,
)
from napari_patchset.stacks.tiff.acquisition import scanimage_header
from napari_patchset.stacks.tiff.ome import OmeImage

_SAMPLE_NAMES = {3: "RGB", 4: "RGBA"}
_COLOR_PHOTOMETRICS = (2, 6)
"""RGB and YCbCr."""

_RESOLUTION_TAGS = {"x": 282, "y": 283}
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
_PRINTED_DPI = (72, 96, 150, 300, 600)
_MAX_PIXEL_SIZE = 100.0
"""Micrometres; larger ones are placeholders of programs: 72 dpi, 1 pixel per inch."""


def series_metadata(
    series: TiffPageSeries, ome: OmeImage | None, axes: str, n_channels: int
) -> ImageMetadata:
    """Return the metadata of a series, which may have OME-XML; `axes` are those of its stack."""
    page = series.keyframe
    if ome:
        described = [Channel(n or f"Channel {i}", c) for i, (n, c) in enumerate(ome.channels)]
        channels = _with_samples(described, page, n_channels)
        metadata = ImageMetadata(channels, ome.pixel_size, ome.time_step)
        return _completed(metadata, series) if page.parent.is_micromanager else metadata
    if series.kind == "imagej" and (imagej := page.parent.imagej_metadata):
        return _imagej_metadata(imagej, page, axes, n_channels)
    plain = _plain_metadata(page, n_channels)
    if (read := _NATIVE.get(series.kind)) is None:
        return replace(plain, pixel_size=PixelSize()) if _is_for_printing(page) else plain
    native = ImageMetadata(())
    with suppress(LookupError, TypeError, ValueError, ArithmeticError):  # it is not checked
        native = read(series)
    size, has_size = native.pixel_size, native.pixel_size.x is not None
    return ImageMetadata(
        _with_samples(list(native.channels), page, n_channels),
        size if has_size else PixelSize(z=size.z, y=plain.pixel_size.y, x=plain.pixel_size.x),
        positive(native.time_step),
    )


def _completed(metadata: ImageMetadata, series: TiffPageSeries) -> ImageMetadata:
    """Complete OME-XML by the metadata that only Micro-Manager's own header has."""
    try:
        own = _micromanager_metadata(series)
    except (LookupError, TypeError, ValueError):
        return metadata
    size, fallback = metadata.pixel_size, own.pixel_size
    sizes = {axis: getattr(size, axis) or getattr(fallback, axis) for axis in "zyx"}
    step = metadata.time_step or own.time_step
    return replace(metadata, pixel_size=PixelSize(**sizes), time_step=step)


def _imagej_metadata(
    described: Mapping[str, Any], page: TiffPage, axes: str, n_channels: int
) -> ImageMetadata:
    """Return the metadata of an image that ImageJ wrote, from tifffile's `imagej_metadata`."""
    unit = str(described.get("unit", ""))
    units = {"x": unit, "y": str(described.get("yunit", unit))}
    sizes = {axis: _pixel_size(page, axis, units[axis]) for axis in "yx"}
    if "Z" in axes:
        # ImageJ leaves out a spacing of 1, and writes a negative one for a stack from the top.
        spacing = abs(number(described.get("spacing", 1)) or 1)
        sizes["z"] = positive(micrometres(spacing, str(described.get("zunit", unit))))
    time_step = seconds(described.get("finterval"), str(described.get("tunit", "s")))
    channels = _imagej_channels(described, axes, n_channels)
    return ImageMetadata(
        _with_samples(channels, page, n_channels), PixelSize(**sizes), positive(time_step)
    )


def _micromanager_metadata(series: TiffPageSeries) -> ImageMetadata:
    """Return the metadata in the header of a Micro-Manager file or NDTiff."""
    file = series.keyframe.parent
    if file.filehandle.closed:  # another file of the set
        with TiffFile(file.filehandle.path) as again:
            summary, own = _micromanager_header(again)
    else:
        summary, own = _micromanager_header(file)
    names = _text_list(summary.get("ChNames"))
    if series.kind == "ndtiff":
        names = _ndtiff_channels(Path(file.filehandle.dirname)) or names
    size = positive(number(summary.get("PixelSize_um", own.get("PixelSizeUm"))))
    z, interval = (abs(number(summary.get(key)) or 0) for key in ("z-step_um", "Interval_ms"))
    return ImageMetadata(
        tuple(Channel(name) for name in names),
        PixelSize(z=positive(z) if "Z" in series.axes else None, y=size, x=size),
        positive(interval / 1000),
    )


def _micromanager_header(file: TiffFile) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the metadata of all images in the header, and those of the first page."""
    summary = (file.micromanager_metadata or {}).get("Summary", {})
    own = file.pages.first.tags.valueof(51123)
    return summary, own if isinstance(own, dict) else {}


def _ndtiff_channels(folder: Path) -> list[str]:
    """Return the names of channels in the order in which the index of an NDTiff first has them."""
    entries = read_ndtiff_index(folder / "NDTiff.index")
    names = dict.fromkeys(axes.get("channel") for axes, *_ in entries)
    return [name for name in names if isinstance(name, str)]


def _lsm_metadata(series: TiffPageSeries) -> ImageMetadata:
    described = series.keyframe.parent.lsm_metadata or {}
    sizes = {a.lower(): positive(micrometres(described.get(f"VoxelSize{a}"), "m")) for a in "ZYX"}
    colors = described.get("ChannelColors", {})
    names, rgb = _text_list(colors.get("ColorNames")), colors.get("Colors", ())
    channels = tuple(
        Channel(name, "#{:02x}{:02x}{:02x}".format(*rgb[i][:3]) if i < len(rgb) else None)
        for i, name in enumerate(names)
    )
    step = number(described.get("TimeIntervall")) if "T" in series.axes else None
    z = sizes.pop("z")
    return ImageMetadata(channels, PixelSize(**sizes, z=z if "Z" in series.axes else None), step)


def _stk_metadata(series: TiffPageSeries) -> ImageMetadata:
    described = series.keyframe.parent.stk_metadata or {}
    unit = str(described.get("CalibrationUnits", ""))
    is_calibrated = described.get("SpatialCalibration", 1)
    x, y = (
        positive(micrometres(described.get(f"{axis}Calibration"), unit)) if is_calibrated else None
        for axis in "XY"
    )
    distances = [abs(float(z)) for z in described.get("ZDistance", ()) if z]
    z = micrometres(distances[0], unit) if distances and "Z" in series.axes else None
    step, created = None, described.get("DatetimeCreated")
    if created is not None and len(created) > 1 and "T" in series.axes:
        step = float((created[-1] - created[0]) / np.timedelta64(len(created) - 1, "s"))
    return ImageMetadata((), PixelSize(z=z, y=y, x=x), step)


def _svs_metadata(series: TiffPageSeries) -> ImageMetadata:
    match = re.search(r"\|\s*MPP\s*=\s*([\d.eE+-]+)", series.keyframe.description)
    size = positive(number(match[1])) if match else None
    return ImageMetadata((), PixelSize(y=size, x=size))


def _qptiff_metadata(series: TiffPageSeries) -> ImageMetadata:
    """Read Akoya's (PerkinElmer's) XML, of which each page has that of its own channel."""
    channels: list[Channel] = []
    for page in series:
        # The XML declares UTF-16 although it is stored as UTF-8.
        text = re.sub(r"^<\?xml[^>]*\?>", "", page.aspage().description if page else "")
        try:
            root = fromstring(text)
        except (ParseError, DefusedXmlException):
            break
        color = re.fullmatch(r"(\d+),\s*(\d+),\s*(\d+)", root.findtext("Color", ""))
        rgb = "#{:02x}{:02x}{:02x}".format(*map(int, color.groups())) if color else None
        channels.append(Channel(root.findtext("Name") or f"Channel {len(channels)}", rgb))
    return ImageMetadata(tuple(channels))


def _sis_metadata(series: TiffPageSeries) -> ImageMetadata:
    described = series.keyframe.parent.sis_metadata or {}
    x, y = (positive(micrometres(described.get(f"pixelsize{axis}"), "m")) for axis in "xy")
    return ImageMetadata((), PixelSize(y=y, x=x))


def _fluoview_metadata(series: TiffPageSeries) -> ImageMetadata:
    described = series.keyframe.parent.fluoview_metadata or {}
    sizes = {
        str(name).strip().lower(): positive(micrometres(abs(resolution), str(unit)))
        for name, _, _, resolution, unit in described.get("Dimensions", ())
    }
    steps = [
        seconds(resolution, str(unit))
        for name, _, _, resolution, unit in described.get("Dimensions", ())
        if str(name).strip().lower() in ("t", "time")
    ]
    size = PixelSize(**{a: sizes[a] for a in "zyx" if a in sizes})
    return ImageMetadata((), size, steps[0] if steps else None)


def _scanimage_metadata(series: TiffPageSeries) -> ImageMetadata:
    header = scanimage_header(series)
    names = ("actualStackZStepSize", "stackZStepSize")
    steps = (number(header.get(f"SI.hStackManager.{name}")) for name in names)
    step = next((abs(step) for step in steps if step), None)
    return ImageMetadata((), PixelSize(z=step if "Z" in series.axes else None))


_NATIVE: dict[str, Callable[[TiffPageSeries], ImageMetadata]] = {
    "mmstack": _micromanager_metadata,
    "ndtiff": _micromanager_metadata,
    "lsm": _lsm_metadata,
    "stk": _stk_metadata,
    "svs": _svs_metadata,
    "qpi": _qptiff_metadata,
    "sis": _sis_metadata,
    "fluoview": _fluoview_metadata,
    "scanimage": _scanimage_metadata,
}
"""By tifffile's kind of series."""


def _text_list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _plain_metadata(page: TiffPage, n_channels: int) -> ImageMetadata:
    """Return the metadata of an image that has only resolution tags."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit), "")
    sizes = {axis: _pixel_size(page, axis, unit) for axis in "yx"}
    plausible = {axis: size for axis, size in sizes.items() if size and size <= _MAX_PIXEL_SIZE}
    return ImageMetadata(_with_samples([], page, n_channels), PixelSize(**plausible))


def _is_for_printing(page: TiffPage) -> bool:
    """Return whether the resolution is one of screens and paper, which tells no pixel size."""
    if _RESOLUTION_UNITS.get(int(page.resolutionunit)) != "inch":
        return False
    sizes = [_pixel_size(page, axis, "inch") for axis in "yx"]
    return all(size and round(25_400 / size, 3) in _PRINTED_DPI for size in sizes)


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
    channels = []
    for i, name in enumerate(names):
        color = limits = None
        if i < len(luts) and getattr(luts[i], "shape", None) == (3, 256):
            color = "#{:02x}{:02x}{:02x}".format(*luts[i][:, -1].tolist())  # of the brightest value
        match [number(value) for value in ranges[2 * i : 2 * i + 2]]:
            case [float(low), float(high)] if low < high:
                limits = low, high
        channels.append(Channel(name, color, limits))
    return channels


def _imagej_names(labels: Sequence[str], axes: str, n_channels: int) -> list[str]:
    """Return the labels of the first planes if all labels repeat from channel to channel."""
    default = [f"Channel {i}" for i in range(n_channels)]
    if not axes.endswith("CYX") or len(set(labels[:n_channels])) < n_channels:
        return default
    repeats = all(label == labels[i % n_channels] for i, label in enumerate(labels))
    return list(labels[:n_channels]) if repeats else default


def _with_samples(described: list[Channel], page: TiffPage, n_channels: int) -> tuple[Channel, ...]:
    """Combine the described channels with the samples of a pixel, such as R, G and B."""
    n_samples = page.shaped[0] * page.shaped[4]
    is_color = page.photometric in _COLOR_PHOTOMETRICS
    samples = _SAMPLE_NAMES.get(n_samples) if is_color else None
    if len(described) == n_channels and (samples is None or n_channels != n_samples):
        return tuple(described)
    if samples is None or n_channels % n_samples:
        return default_channels(n_channels)
    n_groups = n_channels // n_samples
    if len(described) != n_groups:
        described = [*default_channels(n_groups)]
    return tuple(
        sample_channel(group.name, name, is_only=n_groups == 1)
        for group in described
        for name in samples
    )
