"""Read OME-XML: what it says of each image, and whether it is safe to follow.

Find what describes a TIFF's pages: OME-XML in the file itself, or beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from tifffile import TiffFile

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import micrometres, number, positive, seconds
from napari_patchset.stacks.tiff.structure import check_structure, is_tiff

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


@dataclass(frozen=True, slots=True)
class Description:
    """The file to open, and its OME-XML as text and parsed.

    Attributes
    ----------
    path : Path
        Another one than was asked for, where that leaves its description to a further TIFF.
    xml, root : str, Element or None
        The OME-XML.
    is_ome : False or None
        False where the OME-XML is there and must not be used.
    is_alone : bool
        Whether all that is said of the pages, and all pages, are in this one file.
    """

    path: Path
    xml: str | None = None
    root: "Element | None" = None
    is_ome: bool | None = None
    is_alone: bool = True

    def open(self) -> TiffFile:
        """Open the file as described."""
        return TiffFile(self.path, omexml=self.xml, is_ome=self.is_ome)


def describe_file(path: Path, *, plain: bool) -> Description:
    """Read and check the OME-XML that describes a file, if there is any.

    Raises
    ------
    UnreadableFileError
        If it can't be used; with `plain` it is passed over.
    """
    with TiffFile(path) as file:
        xml = file.ome_metadata
    if not xml:
        return Description(path)
    try:
        return _described(path, xml)
    except UnreadableFileError:
        if plain:
            return Description(path, is_ome=False)
        raise


def _described(path: Path, xml: str) -> Description:
    root = parse_ome(xml, path)
    elsewhere = root.find("BinaryOnly")
    if elsewhere is not None:
        path, xml = _read_companion(elsewhere.get("MetadataFile", ""), path)
        root = parse_ome(xml, path)
    check_ome(root, path)
    others = {uuid.get("FileName", "") for uuid in root.iter("UUID")} - {"", path.name}
    for name in others:
        if (path.parent / name).is_file():
            check_structure(path.parent / name)
    return Description(path, xml, root, is_alone=elsewhere is None and not others)


def _read_companion(name: str, path: Path) -> tuple[Path, str]:
    """Give the file to open and the OME-XML of a file that leaves its description to another."""
    check_beside(name, path)
    companion = path.parent / name
    if not name or not companion.is_file():
        raise UnreadableFileError(
            f"{path}: it is part of a set that the file {name!r} describes; put that beside it."
        )
    with companion.open("rb") as file:
        if not is_tiff(file.read(4)):
            return path, companion.read_text("utf-8", "replace")
    check_structure(companion)
    with TiffFile(companion) as tiff:
        return companion, tiff.ome_metadata or ""
