"""Read pixel size, channels and scene names out of a CZI's XML, tolerant of what is not there."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import Channel, ImageMetadata

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from napari_patchset.stacks.czi.geometry import Component, SceneGeometry

_IMAGE = "Metadata/Information/Image"
_METRES_TO_MICROMETRES = 1e6


@dataclass(frozen=True, slots=True)
class CziMetadata:
    """The parts of the XML that are used; the channels by their index in the file."""

    pixel_size: PixelSize = field(default_factory=PixelSize)
    channel_names: dict[int, str] = field(default_factory=dict)
    channel_colors: dict[int, str] = field(default_factory=dict)
    display_ranges: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Black and white point as fractions of the pixel type's range."""
    scene_names: dict[int, str] = field(default_factory=dict)


def parse_metadata(xml: bytes) -> CziMetadata:
    """Parse the XML once, without entities; XML that is broken or absent says nothing."""
    try:
        root = fromstring(xml.rstrip(b"\0").decode("utf-8", "replace"))
    except (ParseError, DefusedXmlException):
        return CziMetadata()
    described = root.findall(f"{_IMAGE}/Dimensions/Channels/Channel")
    displayed = root.findall("Metadata/DisplaySetting/Channels/Channel")
    names, colors, ranges = {}, {}, {}
    for index, elements in _matched(described, displayed).items():
        if name := next((e.get("Name") for e in elements if e.get("Name")), None):
            names[index] = name
        if color := next((c for e in reversed(elements) if (c := _color(e))), None):
            colors[index] = color
        if span := next((r for e in reversed(elements) if (r := _display_range(e))), None):
            ranges[index] = span
    return CziMetadata(
        pixel_size=_pixel_size(root),
        channel_names=names,
        channel_colors=colors,
        display_ranges=ranges,
        scene_names=dict(_scene_names(root)),
    )


def image_metadata(metadata: CziMetadata, geometry: "SceneGeometry") -> ImageMetadata:
    """Describe the channels of one scene's stack."""
    channels = [_channel(metadata, geometry, component) for component in geometry.components]
    return ImageMetadata(tuple(channels), metadata.pixel_size)


def _channel(metadata: CziMetadata, geometry: "SceneGeometry", component: "Component") -> Channel:
    number = geometry.starts["C"] + component.channel
    white = _white(geometry.dtype)
    span = metadata.display_ranges.get(number)
    limits = (span[0] * white, span[1] * white) if span and white else None
    name = metadata.channel_names.get(number)
    if component.color is not None:
        letter = "RGB"[component.color]
        label = f"{name or f'Channel {number}'} {letter}" if geometry.sizes["C"] > 1 else letter
        return Channel(label, ("#ff0000", "#00ff00", "#0000ff")[component.color], limits)
    color = metadata.channel_colors.get(number)
    return Channel(name or f"Channel {number}", color, limits)


def _white(dtype: "np.dtype[np.generic]") -> float | None:
    return float(np.iinfo(dtype.name).max) if dtype.kind == "u" else None


def _matched(described: "list[Element]", displayed: "list[Element]") -> "dict[int, list[Element]]":
    """Give the elements of each channel, its description first, by the channel's number.

    The two lists are matched by @Id, else by position. A channel's number is its position; a file
    cut out of a larger one may number beyond its list, then the number in "Channel:2" counts.
    """
    by_id = {element.get("Id"): element for element in displayed if element.get("Id")}
    listed = described or displayed
    found: dict[int, list[Element]] = {}
    for position, element in enumerate(listed):
        same = displayed[position] if position < len(displayed) else element
        found[position] = [element, by_id.get(element.get("Id"), same)]
    for position, element in enumerate(listed):
        numbered = re.fullmatch(r"Channel:(\d+)", element.get("Id", ""))
        found.setdefault(int(numbered[1]) if numbered else position, found[position])
    return found


def _color(element: "Element") -> str | None:
    """Read "#AARRGGBB" or "#RRGGBB" as "#rrggbb"."""
    found = re.fullmatch(r"#(?:[0-9a-fA-F]{2})?([0-9a-fA-F]{6})", element.findtext("Color", ""))
    return f"#{found[1].lower()}" if found else None


def _display_range(element: "Element") -> tuple[float, float] | None:
    low, high = _number(element.findtext("Low")), _number(element.findtext("High"))
    if low is None and high is None:
        return None
    black, white = low or 0.0, 1.0 if high is None else high
    return (black, white) if 0 <= black < white <= 1 else None


def _pixel_size(root: "Element") -> PixelSize:
    sizes: dict[str, float] = {}
    for distance in root.findall("Metadata/Scaling/Items/Distance"):
        axis, metres = distance.get("Id", "").lower(), _number(distance.findtext("Value"))
        if axis in ("x", "y", "z") and metres and metres > 0:
            sizes[axis] = metres * _METRES_TO_MICROMETRES
    return PixelSize(**sizes)


def _scene_names(root: "Element") -> Iterator[tuple[int, str]]:
    for scene in root.findall(f"{_IMAGE}/Dimensions/S/Scenes/Scene"):
        index, name = scene.get("Index", ""), scene.get("Name")
        if index.isdecimal() and name:
            yield int(index), name


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
