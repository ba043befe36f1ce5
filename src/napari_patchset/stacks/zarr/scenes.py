"""Which images a store holds: one, a plate's fields, the series of a file, or a group's arrays.

Wells and fields of an OME-Zarr plate, and where a map draws them.

What one path of a store holds as an image: its arrays by resolution, and their axes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil, isqrt, prod
from typing import Any, NamedTuple

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.zarr.ome import (
    Axis,
    Level,
    Multiscale,
    axes_by_position,
    axis_letters,
    complaint,
    read_multiscale,
)
from napari_patchset.stacks.zarr.store import ArrayHead, Node, Root, ZarrFormat, read_node

_GAP = 10
"""The space between two wells is this part of a well's width."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of view: row and column of its well, and its number among the well's fields."""

    path: str
    row: int
    column: int
    number: int
    n_fields: int

    @property
    def name(self) -> str:
        """The well as it is spoken of, "A1", and the field where there are several."""
        *place, field = self.path.split("/")[-3:]
        well = "".join(place) or field  # a damaged plate lists wells that are not ROW/COLUMN
        return f"{well} field {field}" if self.n_fields > 1 else well


def plate_fields(root: Root, plate: Node) -> Iterator[Field]:
    """Give the fields of every well that the plate lists, as far as the wells are there."""
    described = plate.ome.get("plate")
    rows, columns = _names(described, "rows"), _names(described, "columns")
    wells = described.get("wells") if isinstance(described, dict) else None
    for well in wells if isinstance(wells, list) else ():
        path = root.join(plate.path, well.get("path") if isinstance(well, dict) else well)
        # The path is what the pixels are found by; writers get the two indices wrong.
        row, _, column = path.rpartition("/")
        place = (_index(rows, row.rpartition("/")[2]), _index(columns, column))
        paths = list(_field_paths(root, path))
        for number, field in enumerate(paths):
            yield Field(field, *place, number, len(paths))


def field_rects(fields: list[Field], sizes: list[tuple[int, int]]) -> list[Rect]:
    """Lay fields of these heights and widths out as a map: wells as on the plate, in each a square.

    Positions are of the map only: what a plate says of its wells is row and column.
    """
    height, width = (max(size) for size in zip(*sizes, strict=True))
    side = max(isqrt(field.n_fields - 1) + 1 for field in fields)
    well_w, well_h = (side * n + ceil(side * width / _GAP) for n in (width, height))
    return [
        Rect(
            field.column * well_w + field.number % side * width,
            field.row * well_h + field.number // side * height,
            w,
            h,
        )
        for field, (h, w) in zip(fields, sizes, strict=True)
    ]


def _field_paths(root: Root, well_path: str) -> Iterator[str]:
    node = read_node(root, well_path)
    well = node.ome.get("well") if node else None
    images = well.get("images") if isinstance(well, dict) else None
    if not isinstance(images, list):
        yield from (f"{well_path}/{name}" for name in root.children(well_path))
        return
    for image in images:
        yield root.join(well_path, image.get("path") if isinstance(image, dict) else image)


def _names(plate: Any, field: str) -> list[str]:
    listed = plate.get(field) if isinstance(plate, dict) else None
    found = listed if isinstance(listed, list) else []
    return [str(item.get("name")) for item in found if isinstance(item, dict)]


def _index(names: list[str], name: str) -> int:
    """Give the place of a row or column, after the others if the plate does not name it."""
    if name not in names:
        names.append(name)
    return names.index(name)


@dataclass(frozen=True, slots=True)
class Resolution:
    """One array of an image: its path in the store, and what the OME metadata says of it."""

    path: str
    head: ArrayHead
    zarr_format: ZarrFormat
    level: Level


@dataclass(frozen=True, slots=True)
class ZarrImage:
    """An image: its resolutions, finest first, and the letters of its axes."""

    axes: str
    resolutions: tuple[Resolution, ...]
    node: Node
    multiscale: Multiscale | None = None
    shortcomings: tuple[str, ...] = ()

    def problems(self) -> str:
        """Say what is wrong with the metadata although the pixels can be had, "" if nothing."""
        invalid = complaint(self.node) if self.multiscale else None
        read_as = [f"{invalid}; the pixels are read as {self.axes}"] if invalid else []
        return "; ".join((*read_as, *self.shortcomings))


def find_image(root: Root, path: str) -> ZarrImage | None:
    """Read what the metadata says of the image at a path, None if there is none.

    Raises
    ------
    UnreadableFileError
        If the pixels can't be had.
    """
    node = read_node(root, path)
    if node is None:
        return None
    if node.head is not None:
        return _listed_array(root, node, node.head) or _plain_image(root, node, node.head)
    multiscale = read_multiscale(node)
    return _ome_image(root, node, multiscale) if multiscale else None


def _plain_image(root: Root, node: Node, head: ArrayHead) -> ZarrImage:
    named = axis_letters([Axis(name) for name in head.dimensions])
    axes = named or axes_by_position(head.shape, root.label(node.path))
    resolution = Resolution(node.path, head, node.zarr_format, Level(node.path))
    return ZarrImage(axes, (resolution,), node)


def _listed_array(root: Root, node: Node, head: ArrayHead) -> ZarrImage | None:
    """See an array that the image around it lists as that image, from this resolution on."""
    above, _, _ = node.path.rpartition("/")
    parent = read_node(root, above) if node.path else None
    multiscale = read_multiscale(parent) if parent and not parent.head else None
    if parent is None or multiscale is None:
        return None
    paths = [root.join(above, level.path) for level in multiscale.levels]
    if node.path not in paths:
        return None
    return _ome_image(root, parent, multiscale, paths.index(node.path))


def _ome_image(root: Root, node: Node, multiscale: Multiscale, first: int = 0) -> ZarrImage:
    resolutions, problems = _resolutions(root, node, multiscale.levels[first:])
    finest = resolutions[0]
    ndim = len(finest.head.shape)
    axes = axis_letters(multiscale.axes) if len(multiscale.axes) == ndim else None
    if axes is None:
        axes = axes_by_position(finest.head.shape, root.label(finest.path))
        problems.append(f"its OME axes do not fit the array; it is read as {axes}")
    return ZarrImage(axes, tuple(resolutions), node, multiscale, tuple(problems))


def _resolutions(
    root: Root, node: Node, levels: tuple[Level, ...]
) -> tuple[list[Resolution], list[str]]:
    """Read each level's array; one that is unlike the first is left out, and that is said."""
    first = _resolution(root, node, levels[0])
    found, problems = [first], []
    for level in levels[1:]:
        try:
            other = _resolution(root, node, level)
        except UnreadableFileError as error:
            problems.append(f"a lower resolution is left out ({error})")
            continue
        if _is_alike(first.head, other.head):
            found.append(other)
        else:
            problems.append(
                f"the resolution {level.path!r} of shape {other.head.shape} and type "
                f"{other.head.dtype} is unlike the first and left out"
            )
    return sorted(found, key=lambda r: -prod(r.head.shape)), problems


def _is_alike(first: ArrayHead, other: ArrayHead) -> bool:
    return len(first.shape) == len(other.shape) and first.dtype == other.dtype


def _resolution(root: Root, node: Node, level: Level) -> Resolution:
    path = root.join(node.path, level.path)
    array = read_node(root, path)
    if array is None or array.head is None:
        raise UnreadableFileError(
            f"{root.label(node.path)}: its OME metadata names the array {level.path!r}, "
            f"which is not there. Copy or export the image again."
        )
    return Resolution(path, array.head, array.zarr_format, level)


_DEPTH = 5
_MOST_SCENES = 10_000
_LAYOUT = "bioformats2raw.layout"
_OME_XML = "METADATA.ome.xml"
_LARGEST_XML = 16 * 2**20


class Found(NamedTuple):
    """A path that may hold an image; `id` is None for the only image of a store."""

    id: str | None
    path: str
    name: str
    field: Field | None = None


def find_scenes(root: Root, base: str) -> list[Found]:
    """List what may hold an image below a path, in the file's order, else in natural order.

    Labels are no scenes; they are opened by their path.
    """
    node = read_node(root, base)
    name = root.label(base).rstrip("/").rsplit("/", 1)[-1]
    if node is not None and (node.head or read_multiscale(node)):
        return [Found(None, base, name)]
    if node is not None and "plate" in node.ome:
        fields = plate_fields(root, node)
        found = [Found(_below(base, f.path), f.path, f.name, f) for f in fields]
    elif node is not None and _LAYOUT in node.ome:
        found = list(_series(root, base))
    else:
        found = []
    walked = islice(_walk(root, base), 0 if found else _MOST_SCENES)
    return found or [Found(_below(base, path), path, _below(base, path)) for path in walked]


def summaries(root: Root, base: str) -> tuple[list[SceneSummary], list[str]]:
    """Describe every scene that can be read; beside them, why others can't.

    Raises
    ------
    UnreadableFileError
        If there is no scene that can be read.
    """
    images: list[tuple[Found, ZarrImage]] = []
    problems: list[str] = []
    for found in find_scenes(root, base):
        try:
            image = find_image(root, found.path)
        except UnreadableFileError as error:
            problems.append(str(error))
            continue
        if image is not None:
            images.append((found, image))
        else:
            problems.append(f"{root.label(found.path)}: there is no image, though one is listed.")
    if not images:
        raise UnreadableFileError(problems[0] if problems else _nothing(root, base))
    return _placed(images), problems


def _nothing(root: Root, base: str) -> str:
    return (
        f"{root.label(base)}: no zarr array and no OME-Zarr image was found here; "
        f"give the path of one."
    )


def _placed(images: list[tuple[Found, ZarrImage]]) -> list[SceneSummary]:
    sizes = [_plane_size(image) for _, image in images]
    fields = [found.field for found, _ in images if found.field]
    if len(fields) == len(images):
        rects = field_rects(fields, sizes)
    else:
        rects = [Rect(0, 0, w, h) for h, w in sizes]
    return [_summary(*pair, rect) for pair, rect in zip(images, rects, strict=True)]


def _plane_size(image: ZarrImage) -> tuple[int, int]:
    sizes = dict(zip(image.axes, image.resolutions[0].head.shape, strict=True))
    return sizes["Y"], sizes["X"]


def _summary(found: Found, image: ZarrImage, rect: Rect) -> SceneSummary:
    head = image.resolutions[0].head
    own = image.multiscale.name if found.id is None and image.multiscale else None
    return SceneSummary(found.id, own or found.name, rect, image.axes, head.shape, head.dtype)


def _series(root: Root, base: str) -> Iterator[Found]:
    """List the series of a converted file: as "OME" lists them, else those with a number."""
    ome = read_node(root, root.join(base, "OME"))
    listed = ome.ome.get("series") if ome else None
    if not isinstance(listed, list):
        listed = [name for name in root.children(base) if name.isdecimal()]
    names = _image_names(root, root.join(base, f"OME/{_OME_XML}"))
    for i, series in enumerate(listed or _counted(root, base)):
        path = root.join(base, series)
        yield Found(_below(base, path), path, names[i] if i < len(names) else str(series))


def _counted(root: Root, base: str) -> list[str]:
    """Count the series where a server does not list folders."""
    found: list[str] = []
    while len(found) < _MOST_SCENES and read_node(root, root.join(base, str(len(found)))):
        found.append(str(len(found)))
    return found


def _image_names(root: Root, key: str) -> list[str]:
    """Read the images' names out of the OME-XML; one that is broken or too large says nothing."""
    content = root.read(key)
    if content is None or len(content) > _LARGEST_XML:
        return []
    try:
        images = fromstring(content).findall("{*}Image")
    except (ParseError, DefusedXmlException, ValueError):
        return []
    return [image.get("Name") or f"Scene {i}" for i, image in enumerate(images)]


def _walk(root: Root, base: str, depth: int = _DEPTH) -> Iterator[str]:
    """Find images and arrays below a path, to a limited depth: links may make circles."""
    for name in root.children(base) if depth else ():
        path = f"{base}/{name}" if base else name
        try:
            node = read_node(root, path)
        except UnreadableFileError:
            yield path  # whoever describes it says what is wrong
            continue
        if node is None or not _is_closed(node):
            if node is None or "labels" not in node.ome:
                yield from _walk(root, path, depth - 1)
        elif "image-label" not in node.ome:
            yield path


def _is_closed(node: Node) -> bool:
    """Whether a node is an image, whose children are no scenes of their own."""
    return node.head is not None or read_multiscale(node) is not None


def _below(base: str, path: str) -> str:
    return path[len(base) + 1 :] if base else path
