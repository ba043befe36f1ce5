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
_EVEN = 0.05
"""Gaps between time points may differ by so much of their mean."""


@dataclass(frozen=True, slots=True)
class CziChannel:
    """One channel in the XML."""

    number: int | None
    """The number in an Id like "Channel:2"."""
    name: str | None
    color: str | None
    display_range: tuple[float, float] | None
    """Black and white point as fractions of the pixel type's range."""


@dataclass(frozen=True, slots=True)
class CziScene:
    """One scene in the XML."""

    name: str | None = None
    well: str | None = None
    center: tuple[float, float] | None = None
    """On the stage, x and y in micrometres."""


@dataclass(frozen=True, slots=True)
class CziMetadata:
    """The parts of the XML that are used."""

    pixel_size: PixelSize = field(default_factory=PixelSize)
    channels: tuple[CziChannel, ...] = ()
    scenes: dict[int, CziScene] = field(default_factory=dict)
    time_step: float | None = None
    """Seconds."""


def parse_metadata(xml: bytes) -> CziMetadata:
    """Parse the XML once, without entities; XML that is broken or absent says nothing."""
    text = xml.rstrip(b"\0").decode("utf-8", "replace")
    if not text.strip():
        return CziMetadata()
    try:
        root = fromstring(text)
    except (ParseError, DefusedXmlException) as error:
        # Its frames would keep the stack, and with it the file, until the next collection.
        error.__traceback__ = None
        return CziMetadata()
    return CziMetadata(
        pixel_size=_pixel_size(root),
        channels=tuple(_channels(root)),
        scenes=dict(_scenes(root)),
        time_step=_time_step(root),
    )


def image_metadata(metadata: CziMetadata, geometry: "SceneGeometry") -> ImageMetadata:
    """Describe the channels of one scene's stack."""
    numbers = range(geometry.starts["C"], geometry.starts["C"] + geometry.sizes["C"])
    found = _by_number(metadata.channels, numbers)
    several = len(numbers) > 1
    channels = [
        _describe(component, numbers[component.channel], found[component.channel], several)
        for component in geometry.components
    ]
    return ImageMetadata(tuple(channels), metadata.pixel_size, metadata.time_step)


def _by_number(channels: tuple[CziChannel, ...], numbers: range) -> list[CziChannel | None]:
    """Find the file's channels in the XML: by Id if every number occurs there, else by position.

    A file that was cut out of a larger one keeps the larger one's Ids but counts from 0.
    """
    by_id = {channel.number: channel for channel in channels}
    if all(number in by_id for number in numbers):
        return [by_id[number] for number in numbers]
    listed = dict(enumerate(channels))
    return [listed.get(number, listed.get(i)) for i, number in enumerate(numbers)]


def _describe(
    component: "Component", number: int, found: CziChannel | None, several: bool
) -> Channel:
    white, span = _white(component.dtype), found.display_range if found else None
    limits = (span[0] * white, span[1] * white) if span and white else None
    name = (found.name if found else None) or f"Channel {number}"
    if component.color is None:
        return Channel(name, found.color if found else None, limits)
    letter = "RGB"[component.color]
    color = ("#ff0000", "#00ff00", "#0000ff")[component.color]
    return Channel(f"{name} {letter}" if several else letter, color, limits)


def _white(dtype: "np.dtype[np.generic]") -> float | None:
    return float(np.iinfo(dtype.name).max) if dtype.kind == "u" else None


def _channels(root: "Element") -> Iterator[CziChannel]:
    """Give the channels, their description and display setting matched by @Id or position."""
    described = root.findall(f"{_IMAGE}/Dimensions/Channels/Channel")
    displayed = root.findall("Metadata/DisplaySetting/Channels/Channel")
    by_id = {element.get("Id"): element for element in displayed if element.get("Id")}
    for position, element in enumerate(described or displayed):
        beside = displayed[position] if position < len(displayed) else element
        shown = by_id.get(element.get("Id"), beside)
        numbered = re.fullmatch(r"Channel:(\d+)", element.get("Id", ""))
        yield CziChannel(
            number=int(numbered[1]) if numbered else None,
            name=element.get("Name") or shown.get("Name"),
            color=_color(shown) or _color(element),
            display_range=_display_range(shown),
        )


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


def _time_step(root: "Element") -> float | None:
    """Read the seconds between time points, None if they are not even or not in the XML."""
    positions = root.find(f"{_IMAGE}/Dimensions/T/Positions")
    if positions is None:
        return None
    step = _number(positions.findtext("Interval/Increment"))
    if step is None:
        offsets = [_number(text) for text in positions.findtext("List/Offsets", "").split()]
        gaps = np.diff([offset for offset in offsets if offset is not None])
        if len(gaps) and np.ptp(gaps) <= _EVEN * abs(np.mean(gaps)):
            step = float(np.mean(gaps))
    return step if step and step > 0 else None


def _scenes(root: "Element") -> Iterator[tuple[int, CziScene]]:
    for scene in root.findall(f"{_IMAGE}/Dimensions/S/Scenes/Scene"):
        index, shape = scene.get("Index", ""), scene.find("Shape")
        if index.isdecimal():
            well = None if shape is None else shape.get("Name") or None
            yield int(index), CziScene(scene.get("Name") or None, well, _center(scene))


def _center(scene: "Element") -> tuple[float, float] | None:
    numbers = [_number(text) for text in scene.findtext("CenterPosition", "").split(",")]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0], numbers[1]


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
