"""The images in a zarr store: one, a plate's fields, a converted file's series, or arrays.

`find_image` matches the OME metadata of one path with the arrays that are there. `find_scenes`
lists the paths that may hold an image, and `scene_summaries` describes those that do, with a place
on a map for each.
"""

import re
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
    Multiscale,
    OmeAxis,
    OmeDataset,
    axes_by_position,
    axis_letters,
    metadata_problem,
    multiscale_numbers,
    read_multiscale,
)
from napari_patchset.stacks.zarr.store import (
    ArrayHead,
    Node,
    Root,
    ZarrFormat,
    as_dict,
    as_list,
)

# One image


@dataclass(frozen=True, slots=True)
class ZarrLevel:
    """One array of an image: its path in the store, and its OME metadata."""

    path: str
    array: ArrayHead
    zarr_format: ZarrFormat
    dataset: OmeDataset


@dataclass(frozen=True, slots=True)
class ZarrImage:
    """An image."""

    axes: str
    """A letter for each axis of its arrays."""
    levels: tuple[ZarrLevel, ...]
    """Its arrays, finest first."""
    node: Node
    """The group, or the array where there is no group."""
    multiscale: Multiscale | None = None
    """The OME metadata."""
    level_problems: tuple[str, ...] = ()
    """Why levels or axes of the metadata are not used."""

    @property
    def problems(self) -> str:
        """The problems of the metadata although the pixels can be read; "" for none."""
        invalid = metadata_problem(self.node, self.multiscale) if self.multiscale else None
        read_as = [f"{invalid}; the pixels are read as {self.axes}"] if invalid else []
        return "; ".join((*read_as, *self.level_problems))

    @property
    def plane_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        sizes = dict(zip(self.axes, self.levels[0].array.shape, strict=True))
        return sizes["Y"], sizes["X"]


_NUMBERED = re.compile(r"(?:(.*)/)?#(\d+)")
"""The path of a group and the number of one of its multiscale images."""


def find_image(root: Root, path: str) -> ZarrImage | None:
    """Find the image at a path, None if there is none.

    An array that the group around it lists as a resolution is that image, from this resolution on.
    "#1" below a group is its second multiscale image.

    Raises
    ------
    UnreadableFileError
        If its metadata names arrays that can't be read.
    """
    node, number = root.node(path), 0
    if node is None and (numbered := _NUMBERED.fullmatch(path)):
        node, number = root.node(numbered[1] or ""), int(numbered[2])
    if node is None:
        return None
    if node.array is None:
        multiscale = read_multiscale(node, number)
        return _ome_image(root, node, multiscale) if multiscale else None
    return _image_from_level(root, path) or _plain_image(root, node, node.array)


def _plain_image(root: Root, node: Node, array: ArrayHead) -> ZarrImage:
    named = axis_letters([OmeAxis(name) for name in array.dimensions])
    axes = named or axes_by_position(array.shape, root.full_name(node.path))
    level = ZarrLevel(node.path, array, node.zarr_format, OmeDataset(node.path))
    return ZarrImage(axes, (level,), node)


def _image_from_level(root: Root, path: str) -> ZarrImage | None:
    parent_path, _, _ = path.rpartition("/")
    parent = root.node(parent_path) if path else None
    multiscale = read_multiscale(parent) if parent and not parent.array else None
    if parent is None or multiscale is None:
        return None
    paths = [root.join(parent_path, dataset.path) for dataset in multiscale.datasets]
    return _ome_image(root, parent, multiscale, paths.index(path)) if path in paths else None


def _ome_image(root: Root, node: Node, multiscale: Multiscale, first: int = 0) -> ZarrImage:
    levels, problems = _read_levels(root, node, multiscale.datasets[first:])
    finest = levels[0]
    n_axes = len(finest.array.shape)
    axes = axis_letters(multiscale.axes) if len(multiscale.axes) == n_axes else None
    if axes is None:
        axes = axes_by_position(finest.array.shape, root.full_name(finest.path))
        problems.append(f"its OME axes do not fit the array; it is read as {axes}")
    return ZarrImage(axes, tuple(levels), node, multiscale, tuple(problems))


def _read_levels(
    root: Root, node: Node, datasets: tuple[OmeDataset, ...]
) -> tuple[list[ZarrLevel], list[str]]:
    """Read the head of each level's array; also return why others than the first are left out."""
    first = _read_level(root, node, datasets[0])
    levels, problems = [first], []
    for dataset in datasets[1:]:
        try:
            level = _read_level(root, node, dataset)
        except UnreadableFileError as error:
            problems.append(f"a lower resolution is left out ({error})")
            continue
        shape, dtype = level.array.shape, level.array.dtype
        if len(shape) == len(first.array.shape) and dtype == first.array.dtype:
            levels.append(level)
        else:
            problems.append(
                f"the resolution {dataset.path!r} of shape {shape} and type {dtype} is unlike the "
                f"first and left out"
            )
    return sorted(levels, key=lambda level: -prod(level.array.shape)), problems


def _read_level(root: Root, node: Node, dataset: OmeDataset) -> ZarrLevel:
    path = root.join(node.path, dataset.path)
    array = root.node(path)
    if array is None or array.array is None:
        raise UnreadableFileError(
            f"{root.full_name(node.path)}: its OME metadata names the array {dataset.path!r}, "
            f"which is not there. Copy or export the image again."
        )
    return ZarrLevel(path, array.array, array.zarr_format, dataset)


# A plate


_GAP = 10
"""The gap between two wells on the map is a well's width divided by this."""


@dataclass(frozen=True, slots=True)
class PlateField:
    """One field of view of a plate."""

    path: str
    """Of its image."""
    row: int
    column: int
    """Of its well, counted from 0."""
    number: int
    n_fields: int
    """Its index among the fields of its well, and how many these are."""

    @property
    def name(self) -> str:
        """The well as biologists write it, "A1", and the field where there are several."""
        *row_and_column, field = self.path.split("/")[-3:]
        well = "".join(row_and_column) or field  # not every path of a damaged plate is ROW/COLUMN
        return f"{well} field {field}" if self.n_fields > 1 else well


def plate_fields(root: Root, plate: Node) -> Iterator[PlateField]:
    """Yield the fields of every well that the plate lists."""
    described = as_dict(plate.ome.get("plate"))
    rows, columns = _names(described.get("rows")), _names(described.get("columns"))
    for well in as_list(described.get("wells")):
        path = root.join(plate.path, well.get("path") if isinstance(well, dict) else well)
        # Some writers get rowIndex and columnIndex wrong; the path leads to the pixels.
        row_path, _, column = path.rpartition("/")
        row = row_path.rpartition("/")[2]
        position = _index_or_append(rows, row), _index_or_append(columns, column)
        # A well that is not there is one field, so that it is named among what can't be read.
        paths = list(_field_paths(root, path)) or [path]
        for number, field in enumerate(paths):
            yield PlateField(field, *position, number, len(paths))


def _field_paths(root: Root, well_path: str) -> Iterator[str]:
    node = root.node(well_path)
    images = as_dict(node.ome.get("well")).get("images") if node else None
    if not isinstance(images, list):
        yield from (f"{well_path}/{name}" for name in root.children(well_path))
        return
    for image in images:
        yield root.join(well_path, image.get("path") if isinstance(image, dict) else image)


def _names(listed: Any) -> list[str]:
    return [str(item.get("name")) for item in as_list(listed) if isinstance(item, dict)]


def _index_or_append(names: list[str], name: str) -> int:
    """Return the index of a row or column; one that the plate does not name comes last."""
    if name not in names:
        names.append(name)
    return names.index(name)


def field_rects(fields: list[PlateField], sizes: list[tuple[int, int]]) -> list[Rect]:
    """Lay fields out as a map: wells as on the plate, the fields of each in a square.

    Parameters
    ----------
    fields : list of PlateField
        The fields.
    sizes : list of (int, int)
        Height and width of each in pixels.

    Returns
    -------
    list of Rect
        Not positions on the stage: of these a plate has only row and column.
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


# All images below a path


_MAX_DEPTH = 5
_MAX_SCENES = 10_000
_MAX_XML_BYTES = 16 * 2**20
_SERIES_LAYOUT = "bioformats2raw.layout"


class SceneEntry(NamedTuple):
    """A path that may hold an image; `id` is None for the only image of a store."""

    id: str | None
    path: str
    name: str
    field: PlateField | None = None


def scene_summaries(root: Root, base: str) -> tuple[list[SceneSummary], list[str]]:
    """Describe every image below a path; also return why listed ones can't be read.

    Raises
    ------
    UnreadableFileError
        If none can be read.
    """
    images: list[tuple[SceneEntry, ZarrImage]] = []
    problems: list[str] = []
    for entry in find_scenes(root, base):
        try:
            image = find_image(root, entry.path)
        except UnreadableFileError as error:
            problems.append(str(error))
            continue
        if image is not None:
            images.append((entry, image))
        else:
            problems.append(
                f"{root.full_name(entry.path)}: there is no image, though one is listed."
            )
    if not images:
        nothing = f"{root.full_name(base)}: no zarr array and no OME-Zarr image was found here; "
        raise UnreadableFileError(problems[0] if problems else f"{nothing}give the path of one.")
    sizes = [image.plane_size for _, image in images]
    fields = [entry.field for entry, _ in images if entry.field]
    if len(fields) == len(images):
        rects = field_rects(fields, sizes)
    else:
        rects = [Rect(0, 0, w, h) for h, w in sizes]
    return [_summary(*pair, rect) for pair, rect in zip(images, rects, strict=True)], problems


def _summary(entry: SceneEntry, image: ZarrImage, rect: Rect) -> SceneSummary:
    array = image.levels[0].array
    is_only = entry.id is None or _NUMBERED.fullmatch(entry.id)
    own_name = image.multiscale.name if is_only and image.multiscale else None
    name = own_name or entry.name
    return SceneSummary(entry.id, name, rect, image.axes, array.shape, array.dtype)


def absent_scenes(root: Root, base: str) -> list[str]:
    """Return the ids of images that are listed below a path but not there."""
    entries = find_scenes(root, base)
    return [entry.id for entry in entries if entry.id and _is_absent(root, entry.path)]


def _is_absent(root: Root, path: str) -> bool:
    try:
        return root.node(path) is None and not _NUMBERED.fullmatch(path)
    except UnreadableFileError:
        return False


def find_scenes(root: Root, base: str) -> list[SceneEntry]:
    """List the paths below `base` that may hold an image.

    They are in the order in which the file lists them, else in natural order. Label images are no
    scenes; they are opened by their path.
    """
    node = root.node(base)
    if node is not None and _is_image(node):
        name = root.full_name(base).rstrip("/").rsplit("/", 1)[-1]
        numbers = multiscale_numbers(node)
        if len(numbers) < 2:
            return [SceneEntry(None, base, name)]
        ids = [f"#{number}" for number in numbers]
        return [SceneEntry(each, root.join(base, each), f"{name} {each}") for each in ids]
    entries: list[SceneEntry] = []
    if node is not None and "plate" in node.ome:
        fields = plate_fields(root, node)
        entries = [SceneEntry(_below(base, f.path), f.path, f.name, f) for f in fields]
    elif node is not None and _SERIES_LAYOUT in node.ome:
        entries = list(_series(root, base))
    if entries:
        return entries
    paths = islice(_walk(root, base), _MAX_SCENES)
    return [SceneEntry(_below(base, path), path, _below(base, path)) for path in paths]


def _series(root: Root, base: str) -> Iterator[SceneEntry]:
    """Yield the series of a converted file, as bioformats2raw and NGFF 0.4 lay them out.

    The group "OME" lists them; without it they are the groups whose name is a number.
    """
    ome = root.node(root.join(base, "OME"))
    series = ome.ome.get("series") if ome else None
    if not isinstance(series, list):
        series = [name for name in root.children(base) if name.isdecimal()]
    names = _image_names(root.read(root.join(base, "OME/METADATA.ome.xml")))
    for i, name in enumerate(series or _numbered_groups(root, base)):
        path = root.join(base, name)
        yield SceneEntry(_below(base, path), path, names[i] if i < len(names) else str(name))


def _numbered_groups(root: Root, base: str) -> list[str]:
    """Return the groups "0", "1", ... that are there, for a server that does not list folders."""
    count = 0
    while count < _MAX_SCENES and root.node(root.join(base, str(count))):
        count += 1
    return [str(i) for i in range(count)]


def _image_names(xml: bytes | None) -> list[str]:
    """Return the images' names in OME-XML; none if it is absent, invalid or too large."""
    if xml is None or len(xml) > _MAX_XML_BYTES:
        return []
    try:
        images = fromstring(xml).findall("{*}Image")
    except (ParseError, DefusedXmlException, ValueError):
        return []
    return [image.get("Name") or f"Scene {i}" for i, image in enumerate(images)]


def _walk(root: Root, base: str, depth: int = _MAX_DEPTH) -> Iterator[str]:
    """Yield the images and arrays below a path, to a limited depth as links may form circles."""
    for name in root.children(base) if depth else ():
        path = f"{base}/{name}" if base else name
        try:
            node = root.node(path)
        except UnreadableFileError:
            yield path  # find_image reports what is wrong with it
            continue
        if node is None or not _is_image(node):
            if node is None or "labels" not in node.ome:
                yield from _walk(root, path, depth - 1)
        elif "image-label" not in node.ome:
            yield path


def _is_image(node: Node) -> bool:
    return node.array is not None or read_multiscale(node) is not None


def _below(base: str, path: str) -> str:
    return path[len(base) + 1 :] if base else path
