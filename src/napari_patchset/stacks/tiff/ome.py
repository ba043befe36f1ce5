"""The OME-XML that describes a TIFF's pages, and the files of a set that it names.

`describe_file` finds the OME-XML, in the file itself, in another TIFF or in a companion file, and
checks it before tifffile follows it. The files of a set are looked for in the folder of the file by
their names alone, since sets are renamed and moved; tifffile gets a copy of the OME-XML with the
paths of those that are there. `OmeImage` is the metadata of an Image element.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from tifffile import TiffFile

from napari_patchset.errors import UnknownAxesError, UnreadableFileError
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import micrometres, number, positive, seconds
from napari_patchset.stacks.tiff.structure import (
    STATE_AXES,
    Edit,
    EditedFile,
    check_structure,
    damaged,
    is_tiff,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_PLANES = 2**22
_COMPANION_SUFFIXES = (".ome", ".ome.xml")
# Possessive, as comments without end would be tried in exponentially many ways.
_OME_START = re.compile(
    r"\s*+(?:<\?xml[^>]*>)?(?:\s|<!--(?:(?!-->).)*+-->)*+<(?:\w+:)?OME[\s>]", re.DOTALL
)
_NDTIFF_INDEX = "NDTiff.index"


@dataclass(frozen=True, slots=True)
class TiffDescription:
    """The TIFF that tifffile should open, with the OME-XML that describes its pages, if any."""

    path: Path
    """The TIFF; not the file that was named if that leaves its description to another."""
    xml: str | None = None
    """The OME-XML, in which each file of a set has its path, and each Image its number as name if
    there are several files."""
    images: "tuple[OmeImage, ...]" = ()
    """The metadata of each Image; empty without OME-XML."""
    ignore_ome: bool = False
    """Whether the file has OME-XML that must not be used."""
    files: tuple[Path, ...] = ()
    """The files of the set that are there, companion file included; else the file alone."""
    absent: tuple[str, ...] = ()
    """The names of the missing ones."""
    problem: str = ""
    """A problem that affects how the pages are read; "" for none."""
    edit: Edit | None = None
    """What tifffile must read otherwise than the file has it."""
    n_pages: int = 0
    """The number of its pages, 0 if that is not known."""

    @property
    def is_set(self) -> bool:
        """Whether it describes more than one file, present or missing."""
        return len(self.files) + len(self.absent) > 1

    @contextmanager
    def open(self) -> Iterator[TiffFile]:
        """Open the file with this description, rather than with Micro-Manager's own."""
        is_ome = False if self.ignore_ome else None
        is_mmstack = False if self.xml else None
        with (
            EditedFile(self.path, self.edit) if self.edit else nullcontext(self.path) as opened,
            TiffFile(opened, omexml=self.xml, is_ome=is_ome, is_mmstack=is_mmstack) as file,
        ):
            yield file


def _without_ome(path: Path, **known: Any) -> TiffDescription:
    """Describe a file of which only its own pages are read."""
    return TiffDescription(path, ignore_ome=True, files=(path,), **known)


def is_companion(path: Path, head: bytes) -> bool:
    """Return whether a file is a companion OME-XML, which describes the TIFFs in its folder."""
    return (
        path.name.lower().endswith(_COMPANION_SUFFIXES) and head.lstrip(b"\xef\xbb\xbf")[:1] == b"<"
    )


def describe_file(path: Path, *, plain: bool) -> TiffDescription:
    """Read and check the OME-XML that describes a file, if there is any.

    If it can't be used that is an error; with `plain` it is ignored instead.
    """
    if path.name.lower().endswith(_COMPANION_SUFFIXES):
        with path.open("rb") as file:
            head = file.read(16)
        if is_companion(path, head):
            xml = path.read_text("utf-8", "replace")
            return _described(path, xml, _parse(xml, path), {}, path)
    chain = check_structure(path)
    if chain.loop:
        # Whether its OME-XML fits the pages that are left is not known.
        problem = f"its pages form a circle; the {chain.n_pages} pages before that are read"
        return _without_ome(path, problem=problem, edit=chain.loop)
    with TiffFile(path) as tiff:
        text = tiff.ome_metadata or _find_ome(tiff.pages.first.description)
        lacks_index = not text and _lacks_index(tiff)
    if lacks_index:
        problem = (
            f"the file {_NDTIFF_INDEX!r} that describes its set is not in its folder, so that only "
            "its own pages are read, in the order in which they were written"
        )
        return TiffDescription(path, files=(path,), absent=(_NDTIFF_INDEX,), problem=problem)
    if not text:
        return TiffDescription(path, files=(path,), edit=chain.bom)
    try:
        return replace(_read_description(path, text), n_pages=chain.n_pages)
    except UnreadableFileError:
        if plain:
            return _without_ome(path)
        raise


def _find_ome(text: str) -> str:
    """Return a description that begins as OME-XML, "" for another.

    tifffile, which looks at the end, misses OME-XML that was cut short or has a comment behind it.
    """
    if not _OME_START.match(text):
        return ""
    complete, end, _ = text.rpartition("OME>")
    return f"{complete}{end}" or text


def _lacks_index(file: TiffFile) -> bool:
    """Return whether a file is an NDTiff's of which the index was not copied."""
    version = number((file.micromanager_metadata or {}).get("MajorVersion")) or 0
    return version >= 2 and not (Path(file.filehandle.dirname) / _NDTIFF_INDEX).exists()


def _read_description(path: Path, xml: str) -> TiffDescription:
    root = _parse(xml, path)
    binary_only = root.find("BinaryOnly")
    if binary_only is None:
        return _described(path, xml, root, {root.get("UUID"): path}, path)
    name = binary_only.get("MetadataFile", "")
    companion = _find_file(name, path)
    if companion is None:
        problem = (
            f"the file {name!r} that describes its set is not in its folder, so that only its own "
            "pages are read"
        )
        return _without_ome(path, absent=(_base_name(name),), problem=problem)
    known = {root.get("UUID"): path}
    with companion.open("rb") as file:
        is_other_tiff = is_tiff(file.read(4))
    if not is_other_tiff:
        text = companion.read_text("utf-8", "replace")
        return _described(path, text, _parse(text, companion), known, companion)
    _check_no_circle(companion)
    with TiffFile(companion) as tiff:
        text = tiff.ome_metadata or ""
    root = _parse(text, companion)
    return _described(companion, text, root, known | {root.get("UUID"): companion}, companion)


def _described(
    path: Path, xml: str, root: "Element", known: Mapping[str | None, Path], companion: Path
) -> TiffDescription:
    """Find the files that the OME-XML names, which is from `companion`.

    `path` is the TIFF to open, or the companion file if that was named; `known` has the files whose
    UUID is known.
    """
    _check_sizes(root, companion)
    is_companion_named = not known
    files = _find_files(root, path, known)
    absent = [name for name, file in files.items() if file is None]
    problem = ""
    if not is_companion_named and files and path not in files.values() and len(absent) == 1:
        files[absent[0]] = path
        problem = (
            f"its OME-XML names the file {absent[0][1]!r}, which is not in its folder; the pages "
            "of this file are read instead"
        )
        absent = []
    present = dict.fromkeys(file for file in files.values() if file is not None)
    names = tuple(dict.fromkeys(_base_name(name) for _, name in absent))
    if files and not present:
        if is_companion_named:
            raise UnreadableFileError(
                f"{path}: none of the {len(names)} files that it describes is in its folder "
                f"({names[0]}, ...); put them there."
            )
        problem = (
            f"none of the files that its OME-XML names is in its folder ({names[0]}, ...), so that "
            "only its own pages are read"
        )
        return _without_ome(path, absent=names, problem=problem)
    if not present and is_companion_named:
        raise UnreadableFileError(f"{path}: it does not name the files that hold its pixels.")
    for file in present:
        if file != path:
            _check_no_circle(file)
    opened = next(iter(present)) if is_companion_named else path
    images = tuple(_read_image(image.get("Name", ""), pixels) for image, pixels in _images(root))
    everything = tuple(dict.fromkeys((*present, opened, companion)))
    is_set = len(everything) + len(names) > 1
    if is_set or any(_base_name(name) != path.name for _, name in files):
        xml = _with_paths(root, files, opened, is_set)
    return TiffDescription(opened, xml, images, False, everything, names, problem)


def _check_no_circle(path: Path) -> None:
    """Refuse another file of a set that is damaged."""
    if check_structure(path).loop:
        raise damaged(path, "its pages form a circle")


def _find_files(
    root: "Element", path: Path, known: Mapping[str | None, Path]
) -> dict[tuple[str, str], Path | None]:
    """Find the file of each pair of UUID and name, None if it is not there."""
    pairs = dict.fromkeys((uuid.text or "", uuid.get("FileName", "")) for uuid in root.iter("UUID"))
    counts = Counter(uuid for uuid, _ in pairs)
    names = {file.name: file for file in known.values()}
    files: dict[tuple[str, str], Path | None] = {}
    for uuid, name in pairs:
        # Writers that give all files of a set one UUID leave only their names.
        if uuid in known and counts[uuid] == 1:
            files[uuid, name] = known[uuid]
        elif not name:
            files[uuid, name] = path if known else None
        else:
            files[uuid, name] = names.get(_base_name(name)) or _find_file(name, path)
    return files


def _base_name(name: str) -> str:
    """Return the last part of a path of any system."""
    return PureWindowsPath(name).name


def _find_file(name: str, path: Path) -> Path | None:
    """Find a file by its name in the folder of another one, or in that of the link's target.

    Where the name is a path, it was one on the computer that wrote the file: only a path into a
    folder below is followed.
    """
    windows = PureWindowsPath(name)
    is_below = not windows.anchor and ".." not in windows.parts
    for folder in dict.fromkeys((path.parent, Path(os.path.realpath(path)).parent)):
        for candidate in dict.fromkeys(([windows.as_posix()] if is_below else []) + [windows.name]):
            if candidate and (folder / candidate).is_file():
                return folder / candidate
    return None


def _with_paths(
    root: "Element", files: Mapping[tuple[str, str], Path | None], opened: Path, is_set: bool
) -> str:
    """Write OME-XML that names each file by its path, without the pages of absent files."""
    ids = {file: f"urn:uuid:{i}" for i, file in enumerate(dict.fromkeys(files.values()))}
    root.set("UUID", ids.get(opened, "urn:uuid:opened"))
    for i, (image, pixels) in enumerate(_images(root)):
        if is_set:
            image.set("Name", str(i))
        for data in pixels.findall("TiffData"):
            uuid = data.find("UUID")
            if uuid is None:
                continue
            file = files[uuid.text or "", uuid.get("FileName", "")]
            if file is None:
                pixels.remove(data)
            else:
                uuid.text = ids[file]
                uuid.set("FileName", str(file.absolute()))
    return tostring(root, "unicode")


def _parse(xml: str, path: Path) -> "Element":
    """Parse OME-XML, which must not declare entities, and strip the namespace from its tags."""
    try:
        root: Element = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        reason = str(error) if isinstance(error, ParseError) else "it declares entities"
        raise UnknownAxesError(
            f"{path}: its OME-XML can't be read: {reason}. {STATE_AXES}"
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


@dataclass(frozen=True, slots=True)
class OmeImage:
    """The metadata of one Image element."""

    name: str
    """Empty if it has none."""
    plane_shape: tuple[int, int]
    """Height and width in pixels."""
    channels: tuple[tuple[str | None, str | None], ...]
    """Name and colour ("#rrggbb") of each."""
    pixel_size: PixelSize
    """In micrometres."""
    position: tuple[float, float]
    """X and Y on the stage in micrometres, 0 if it has none."""
    time_step: float | None
    """In seconds."""


def _images(root: "Element") -> Iterator[tuple["Element", "Element"]]:
    for image in root.iter("Image"):
        pixels = image.find("Pixels")
        if pixels is not None:
            yield image, pixels


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
    values = {} if element is None else element.attrib
    return micrometres(values.get(name), values.get(f"{name}Unit", default_unit))


def _integer(element: "Element", name: str) -> int:
    return int(number(element.get(name)) or 0)


def _color(text: str | None) -> str | None:
    """Convert a signed 32-bit RGBA number to "#rrggbb"."""
    value = number(text)
    return None if value is None else f"#{(int(value) & 0xFFFFFFFF) >> 8:06x}"
