"""Read pixel size, channels and scene names from a CZI's XML, tolerant of missing elements."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import micrometres, number, positive

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_IMAGE = "Metadata/Information/Image"
_MAX_GAP_SPREAD = 0.05
"""Gaps between time points may differ by this fraction of their mean."""


@dataclass(frozen=True, slots=True)
class CziChannel:
    """A channel in the XML."""

    number: int | None
    """The number in an Id like "Channel:2"."""
    name: str | None
    color: str | None
    display_range: tuple[float, float] | None
    """Black and white point as fractions of the pixel type's range."""


@dataclass(frozen=True, slots=True)
class CziScene:
    """A scene in the XML."""

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
    """Seconds between time points."""
    problem: str = ""
    """Why all of it is unknown although the file has XML."""

    def channels_by_number(self, numbers: range) -> list[CziChannel | None]:
        """Return the XML's channels for the file's channel numbers.

        They are matched by Id if every number occurs as one, else by position: a file cut out of a
        larger one keeps the larger one's Ids but counts from 0.
        """
        by_id = {channel.number: channel for channel in self.channels}
        if all(n in by_id for n in numbers):
            return [by_id[n] for n in numbers]
        listed = dict(enumerate(self.channels))
        return [listed.get(n, listed.get(i)) for i, n in enumerate(numbers)]


def parse_metadata(xml: bytes) -> CziMetadata:
    """Parse the XML without expanding entities; of broken or missing XML all is unknown."""
    text = xml.rstrip(b"\0").decode("utf-8", "replace")
    if not text.strip():
        return CziMetadata()
    try:
        root = fromstring(text)
    except (ParseError, DefusedXmlException) as error:
        # Its frames would keep the stack, and so the file, alive until a garbage collection.
        error.__traceback__ = None
        reason = str(error) if isinstance(error, ParseError) else "it declares entities"
        problem = f"its XML metadata can't be read ({reason}); pixel size and names are unknown"
        return CziMetadata(problem=problem)
    return CziMetadata(
        pixel_size=_pixel_size(root),
        channels=tuple(_channels(root)),
        scenes=dict(_scenes(root)),
        time_step=_time_step(root),
    )


def _channels(root: "Element") -> Iterator[CziChannel]:
    """Yield the channels, matching description and display setting by Id, else by position."""
    described = root.findall(f"{_IMAGE}/Dimensions/Channels/Channel")
    displayed = root.findall("Metadata/DisplaySetting/Channels/Channel")
    by_id = {element.get("Id"): element for element in displayed if element.get("Id")}
    for position, element in enumerate(described or displayed):
        same_position = displayed[position] if position < len(displayed) else element
        display = by_id.get(element.get("Id"), same_position)
        match = re.fullmatch(r"Channel:(\d+)", element.get("Id", ""))
        yield CziChannel(
            number=int(match[1]) if match else None,
            name=element.get("Name") or display.get("Name"),
            color=_color(display) or _color(element),
            display_range=_display_range(display),
        )


def _color(element: "Element") -> str | None:
    """Read "#AARRGGBB" or "#RRGGBB" as "#rrggbb"."""
    match = re.fullmatch(r"#(?:[0-9a-fA-F]{2})?([0-9a-fA-F]{6})", element.findtext("Color", ""))
    return f"#{match[1].lower()}" if match else None


def _display_range(element: "Element") -> tuple[float, float] | None:
    low, high = number(element.findtext("Low")), number(element.findtext("High"))
    if low is None and high is None:
        return None
    black, white = low or 0.0, 1.0 if high is None else high
    return (black, white) if 0 <= black < white <= 1 else None


def _pixel_size(root: "Element") -> PixelSize:
    sizes: dict[str, float] = {}
    for distance in root.findall("Metadata/Scaling/Items/Distance"):
        axis, size = distance.get("Id", "").lower(), micrometres(distance.findtext("Value"), "m")
        if axis in ("x", "y", "z") and size and size > 0:
            sizes[axis] = size
    return PixelSize(**sizes)


def _time_step(root: "Element") -> float | None:
    """Return the seconds between time points, None if uneven or not in the XML."""
    positions = root.find(f"{_IMAGE}/Dimensions/T/Positions")
    if positions is None:
        return None
    step = number(positions.findtext("Interval/Increment"))
    if step is None:
        offsets = [number(text) for text in positions.findtext("List/Offsets", "").split()]
        gaps = np.diff([offset for offset in offsets if offset is not None])
        if len(gaps) and np.ptp(gaps) <= _MAX_GAP_SPREAD * abs(np.mean(gaps)):
            step = float(np.mean(gaps))
    return positive(step)


def _scenes(root: "Element") -> Iterator[tuple[int, CziScene]]:
    for scene in root.findall(f"{_IMAGE}/Dimensions/S/Scenes/Scene"):
        index, shape, center = scene.get("Index", ""), scene.find("Shape"), None
        match [number(text) for text in scene.findtext("CenterPosition", "").split(",")]:
            case [float(x), float(y)]:
                center = x, y
        if index.isdecimal():
            well = None if shape is None else shape.get("Name") or None
            yield int(index), CziScene(scene.get("Name") or None, well, center)
