"""Read OME-XML: what it says of each image, and whether it is safe to follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize
from napari_patchset.stacks.tiff.units import micrometres, number, positive, seconds

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MOST_PLANES = 2**22
USE_FROM_TIFF = "If you know the axes of its pages, read it with InMemoryImageStack.from_tiff."


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One Image element.

    Attributes
    ----------
    name : str
        Empty where it has none.
    plane_shape : tuple of int
        Height and width in pixels.
    channels : tuple of (str or None, str or None)
        Name and colour of each.
    pixel_size : PixelSize
        In micrometres.
    position : tuple of float
        X and Y on the stage in micrometres, 0 where it has none.
    time_step : float or None
        In seconds.
    """

    name: str
    plane_shape: tuple[int, int]
    channels: tuple[tuple[str | None, str | None], ...]
    pixel_size: PixelSize
    position: tuple[float, float]
    time_step: float | None


def parse_ome(xml: str, path: Path) -> "Element":
    """Parse OME-XML without entities, and take the namespace off its tags.

    Raises
    ------
    UnreadableFileError
        If it is broken or declares entities.
    """
    try:
        root: Element = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        raise UnreadableFileError(
            f"{path}: its OME-XML can't be read: {error!r}. {USE_FROM_TIFF}"
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def check_ome(root: "Element", path: Path) -> None:
    """Refuse what leads out of the file's folder and what declares more than can be.

    Raises
    ------
    UnreadableFileError
        Naming what it declares.
    """
    for uuid in root.iter("UUID"):
        check_beside(uuid.get("FileName", ""), path)
    for pixels in root.iter("Pixels"):
        sizes = [_integer(pixels, f"Size{axis}") for axis in "XYZCT"]
        if min(sizes) < 1 or prod(sizes[2:]) > _MOST_PLANES:
            raise UnreadableFileError(
                f"{path}: its OME-XML declares an image of X, Y, Z, C, T = {sizes}; each must be "
                f"at least 1, and there can be at most {_MOST_PLANES} planes."
            )
        for data in pixels.iter("TiffData"):
            counts = [_integer(data, name) for name in ("IFD", "PlaneCount", "NumPlanes")]
            if not 0 <= min(counts) <= max(counts) <= _MOST_PLANES:
                raise UnreadableFileError(f"{path}: its OME-XML has TiffData of {data.attrib}.")


def check_beside(name: str, path: Path) -> None:
    """Refuse a file name that leads out of the folder of `path`.

    Raises
    ------
    UnreadableFileError
        Naming it.
    """
    windows = PureWindowsPath(name)
    if windows.anchor or ".." in windows.parts:
        raise UnreadableFileError(
            f"{path}: its OME-XML names the file {name!r}, which is outside of its folder; the "
            "files of a set must be side by side."
        )


def ome_images(root: "Element") -> Iterator[OmeImage]:
    """Give what each Image element says."""
    for image in root.iter("Image"):
        pixels = image.find("Pixels")
        if pixels is not None:
            yield _image(image.get("Name", ""), pixels)


def _image(name: str, pixels: "Element") -> OmeImage:
    sizes = {axis.lower(): positive(_length(pixels, f"PhysicalSize{axis}")) for axis in "ZYX"}
    step = seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    plane = next(pixels.iter("Plane"), None)
    x, y = (_length(plane, f"Position{axis}", "reference frame") or 0.0 for axis in "XY")
    return OmeImage(
        name=name,
        plane_shape=(_integer(pixels, "SizeY"), _integer(pixels, "SizeX")),
        channels=tuple((e.get("Name"), _color(e.get("Color"))) for e in pixels.iter("Channel")),
        pixel_size=PixelSize(**sizes),
        position=(x, y),
        time_step=positive(step),
    )


def _length(element: "Element | None", name: str, default: str = "µm") -> float | None:
    if element is None:
        return None
    return micrometres(element.get(name), element.get(f"{name}Unit", default))


def _integer(element: "Element", name: str) -> int:
    return int(number(element.get(name)) or 0)


def _color(text: str | None) -> str | None:
    """Read a signed 32-bit RGBA number as "#rrggbb"."""
    value = number(text)
    return None if value is None else f"#{(int(value) & 0xFFFFFFFF) >> 8:06x}"
