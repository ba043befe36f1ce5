"""The OME-XML that describes a TIFF's pages: in the file itself or in a companion file.

`describe_file` finds and checks it before tifffile follows it: files that it names must lie in the
same folder and be sound, and the sizes that it declares must be possible. `ome_images` reads the
metadata of each Image element.
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
from napari_patchset.stacks.tiff.structure import USE_FROM_TIFF, check_structure, is_tiff
from napari_patchset.stacks.units import micrometres, number, positive, seconds

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_PLANES = 2**22


@dataclass(frozen=True, slots=True)
class TiffDescription:
    """The file that tifffile should open, with the OME-XML that describes its pages, if any.

    Attributes
    ----------
    path : Path
        The file; another TIFF than the one asked for if that leaves its description to the other.
    xml, root : str, Element or None
        The OME-XML as text and parsed.
    ignore_ome : bool
        Whether the file has OME-XML that must not be used.
    is_alone : bool
        Whether pages and description are all in this one file.
    """

    path: Path
    xml: str | None = None
    root: "Element | None" = None
    ignore_ome: bool = False
    is_alone: bool = True

    def open(self) -> TiffFile:
        """Open the file with this description."""
        return TiffFile(self.path, omexml=self.xml, is_ome=False if self.ignore_ome else None)


def describe_file(path: Path, *, plain: bool) -> TiffDescription:
    """Read and check the OME-XML that describes a file, if there is any.

    Raises
    ------
    UnreadableFileError
        If it can't be used; with `plain` it is ignored instead.
    """
    with TiffFile(path) as file:
        xml = file.ome_metadata
    if not xml:
        return TiffDescription(path)
    try:
        return _read_description(path, xml)
    except UnreadableFileError:
        if plain:
            return TiffDescription(path, ignore_ome=True)
        raise


def _read_description(path: Path, xml: str) -> TiffDescription:
    root = _parse(xml, path)
    binary_only = root.find("BinaryOnly")
    if binary_only is not None:
        path, xml = _read_companion(binary_only.get("MetadataFile", ""), path)
        root = _parse(xml, path)
    _check_sizes(root, path)
    names = {uuid.get("FileName", "") for uuid in root.iter("UUID")}
    for name in names:
        _check_inside(name, path)
    others = names - {"", path.name}
    for name in others:
        if (path.parent / name).is_file():
            check_structure(path.parent / name)
    return TiffDescription(path, xml, root, is_alone=binary_only is None and not others)


def _read_companion(name: str, path: Path) -> tuple[Path, str]:
    """Return the file to open and its OME-XML, for a file that is described by a companion."""
    _check_inside(name, path)
    companion = path.parent / name
    if not name or not companion.is_file():
        raise UnreadableFileError(
            f"{path}: it is part of a set that the file {name!r} describes; put that file into the "
            "same folder."
        )
    with companion.open("rb") as file:
        if not is_tiff(file.read(4)):
            return path, companion.read_text("utf-8", "replace")
    check_structure(companion)
    with TiffFile(companion) as tiff:
        return companion, tiff.ome_metadata or ""


def _parse(xml: str, path: Path) -> "Element":
    """Parse OME-XML, which must not declare entities, and strip the namespace from its tags."""
    try:
        root: Element = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        raise UnreadableFileError(
            f"{path}: its OME-XML can't be read: {error!r}. {USE_FROM_TIFF}"
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _check_sizes(root: "Element", path: Path) -> None:
    for pixels in root.iter("Pixels"):
        sizes = [_integer(pixels, f"Size{axis}") for axis in "XYZCT"]
        if min(sizes) < 1 or prod(sizes[2:]) > _MAX_PLANES:
            raise UnreadableFileError(
                f"{path}: its OME-XML declares an image of X, Y, Z, C, T = {sizes}; each must be "
                f"at least 1, and there can be at most {_MAX_PLANES} planes."
            )
        for data in pixels.iter("TiffData"):
            counts = [_integer(data, name) for name in ("IFD", "PlaneCount", "NumPlanes")]
            if not 0 <= min(counts) <= max(counts) <= _MAX_PLANES:
                raise UnreadableFileError(f"{path}: its OME-XML has TiffData of {data.attrib}.")


def _check_inside(name: str, path: Path) -> None:
    """Refuse a file name that leads out of the folder of `path`, on any system."""
    windows = PureWindowsPath(name)
    if windows.anchor or ".." in windows.parts:
        raise UnreadableFileError(
            f"{path}: its OME-XML names the file {name!r}, which is outside of its folder; all "
            "files of a set must be in one folder."
        )


@dataclass(frozen=True, slots=True)
class OmeImage:
    """The metadata of one Image element.

    Attributes
    ----------
    name : str
        Empty if it has none.
    plane_shape : tuple of int
        Height and width in pixels.
    channels : tuple of (str or None, str or None)
        Name and colour ("#rrggbb") of each.
    pixel_size : PixelSize
        In micrometres.
    position : tuple of float
        X and Y on the stage in micrometres, 0 if it has none.
    time_step : float or None
        In seconds.
    """

    name: str
    plane_shape: tuple[int, int]
    channels: tuple[tuple[str | None, str | None], ...]
    pixel_size: PixelSize
    position: tuple[float, float]
    time_step: float | None


def ome_images(root: "Element") -> Iterator[OmeImage]:
    """Yield the metadata of each Image element that has pixels."""
    for image in root.iter("Image"):
        pixels = image.find("Pixels")
        if pixels is not None:
            yield _read_image(image.get("Name", ""), pixels)


def _read_image(name: str, pixels: "Element") -> OmeImage:
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


def _length(element: "Element | None", name: str, default_unit: str = "µm") -> float | None:
    if element is None:
        return None
    return micrometres(element.get(name), element.get(f"{name}Unit", default_unit))


def _integer(element: "Element", name: str) -> int:
    return int(number(element.get(name)) or 0)


def _color(text: str | None) -> str | None:
    """Convert a signed 32-bit RGBA number to "#rrggbb"."""
    value = number(text)
    return None if value is None else f"#{(int(value) & 0xFFFFFFFF) >> 8:06x}"
