"""Find what describes a TIFF's pages: OME-XML in the file itself, or beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tifffile import TiffFile

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.tiff.check import check_structure, is_tiff
from napari_patchset.stacks.tiff.ome import check_beside, check_ome, parse_ome

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


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
        if not is_tiff(companion, file.read(4)):
            return path, companion.read_text("utf-8", "replace")
    check_structure(companion)
    with TiffFile(companion) as tiff:
        return companion, tiff.ome_metadata or ""
