"""The images in a zarr store: one, a plate's fields, a converted file's series, or arrays.

They are found by the metadata of their nodes; nothing here needs zarr itself, but for a URL.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import NamedTuple

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.metadata import MAX_LISTED, SceneSummary
from napari_patchset.stacks.zarr.ome import (
    Multiscale,
    OmeAxis,
    OmeDataset,
    PlateField,
    axes_by_position,
    axis_letters,
    field_rects,
    metadata_problem,
    multiscale_numbers,
    plate_fields,
    read_multiscale,
)
from napari_patchset.stacks.zarr.store import (
    ArrayNode,
    LocalRoot,
    Node,
    Root,
    ZipRoot,
    as_list,
    is_zarr,
    is_zip,
)


def open_root(path: Path | str) -> tuple[Root, str]:
    """Find the hierarchy that a folder or URL belongs to, and the path in it.

    For an array on disk it is the folder around it, if that is part of a store: the image that
    lists the array has its axes and pixel size.
    """
    if isinstance(path, str) and "://" in path:
        from napari_patchset.stacks.zarr.remote import RemoteRoot  # imports zarr, which is slow

        return RemoteRoot(path), ""
    path = Path(path)
    if is_zip(path):
        return ZipRoot(path), ""
    root = LocalRoot(path)
    node = root.node("")
    parent = path.absolute().parent
    if isinstance(node, ArrayNode) and is_zarr(parent):
        return LocalRoot(parent), path.absolute().name
    return root, ""


class ZarrLevel(NamedTuple):
    """One resolution of an image: its array, and what the OME metadata say of it."""

    array: ArrayNode
    dataset: OmeDataset


@dataclass(frozen=True, slots=True)
class ZarrImage:
    """An image: the OME metadata of a path, and those of its arrays that are there."""

    axes: str
    """A letter for each axis of its arrays."""
    levels: tuple[ZarrLevel, ...]
    """Finest first."""
    node: Node
    """The group, or the array where there is no group."""
    multiscale: Multiscale | None = None
    level_problems: tuple[str, ...] = ()
    """Why levels or axes of the metadata are not used."""
    are_axes_guessed: bool = False
    """Whether they are those that an array of so many dimensions mostly has."""

    @property
    def problems(self) -> str:
        """The problems of the metadata although the pixels can be read; "" for none."""
        invalid = metadata_problem(self.node, self.multiscale) if self.multiscale else None
        read_as = [f"{invalid}; the pixels are read as {self.axes}"] if invalid else []
        return "; ".join((*read_as, *self.level_problems))


_NUMBERED = re.compile(r"(?:(.*)/)?#(\d+)")
"""The path of a group and the number of one of its multiscale images."""


def find_image(root: Root, path: str) -> ZarrImage | None:
    """Find the image at a path, None if there is none.

    An array that the group around it lists as a resolution is that image, from this resolution on.
    "#1" below a group is its second multiscale image.
    """
    node, number = root.node(path), 0
    if node is None and (numbered := _NUMBERED.fullmatch(path)):
        node, number = root.node(numbered[1] or ""), int(numbered[2])
    if node is None:
        return None
    if not isinstance(node, ArrayNode):
        multiscale = read_multiscale(node, number)
        return _ome_image(root, node, multiscale) if multiscale else None
    above, _, _ = path.rpartition("/")
    group = root.node(above) if path else None
    if group and not isinstance(group, ArrayNode) and (multiscale := read_multiscale(group)):
        paths = [root.join(above, dataset.path) for dataset in multiscale.datasets]
        if path in paths:
            return _ome_image(root, group, multiscale, paths.index(path))
    named = axis_letters([OmeAxis(name) for name in node.dimensions])
    axes = named or axes_by_position(node.shape, root.full_name(path))
    levels = (ZarrLevel(node, OmeDataset(path)),)
    return ZarrImage(axes, levels, node, are_axes_guessed=named is None)


def _ome_image(root: Root, node: Node, multiscale: Multiscale, first: int = 0) -> ZarrImage:
    datasets = multiscale.datasets[first:]
    reference = _read_array(root, node, datasets[0])
    levels, problems = [ZarrLevel(reference, datasets[0])], list[str]()
    for dataset in datasets[1:]:
        try:
            array = _read_array(root, node, dataset)
        except UnreadableFileError as error:
            problems.append(f"a lower resolution is ignored ({error})")
            continue
        if (len(array.shape), array.dtype) == (len(reference.shape), reference.dtype):
            levels.append(ZarrLevel(array, dataset))
        else:
            problems.append(
                f"the resolution {dataset.path!r} of shape {array.shape} and type {array.dtype} is "
                "unlike the first and ignored"
            )
    levels.sort(key=lambda level: -prod(level.array.shape))
    finest = levels[0].array
    fit = len(multiscale.axes) == len(finest.shape)
    axes = axis_letters(multiscale.axes) if fit else None
    if axes is None:
        axes = axes_by_position(finest.shape, root.full_name(finest.path))
        if multiscale.axes:  # versions before 0.3 state none
            problems.append(f"its OME axes do not fit the array; it is read as {axes}")
    return ZarrImage(axes, tuple(levels), node, multiscale, tuple(problems))


def _read_array(root: Root, node: Node, dataset: OmeDataset) -> ArrayNode:
    array = root.node(root.join(node.path, dataset.path))
    if not isinstance(array, ArrayNode):
        raise UnreadableFileError(
            f"{root.full_name(node.path)}: its OME metadata names the array {dataset.path!r}, "
            f"which is not there. Copy or export the image again."
        )
    return array


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
    """Describe every image below a path, at least one; also return why others can't be read."""
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
    return [_summary(*each) for each in zip(images, _rects(images), strict=True)], problems


def _rects(images: Sequence[tuple[SceneEntry, ZarrImage]]) -> list[Rect]:
    """Return where images lie: as the fields of a plate if all are, else each by itself."""
    sizes = []
    for _, image in images:
        by_axis = dict(zip(image.axes, image.levels[0].array.shape, strict=True))
        sizes.append((by_axis["Y"], by_axis["X"]))
    fields = [entry.field for entry, _ in images if entry.field]
    if len(fields) == len(images):
        return field_rects(fields, sizes)
    return [Rect(0, 0, w, h) for h, w in sizes]


def _summary(listed: tuple[SceneEntry, ZarrImage], rect: Rect) -> SceneSummary:
    (entry, image), name = listed, listed[0].name
    if entry.id is None or _NUMBERED.fullmatch(entry.id) or name.isdecimal():
        own_name = image.multiscale.name if image.multiscale else None
        if own_name and not own_name.startswith("/"):  # not the path of its group
            name = own_name
    array, well = image.levels[0].array, entry.field.well if entry.field else None
    return SceneSummary(entry.id, name, rect, image.axes, array.shape, array.dtype, well)


def zarr_scenes(path: Path | str) -> list[SceneSummary]:
    """List the images of a store or of a folder in it; a single one has no id."""
    scenes, problems = scene_summaries(*open_root(path))
    if problems:
        more = f"; and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        listed = "; ".join(problem.rstrip(".") for problem in problems[:MAX_LISTED])
        warnings.warn(f"skipped: {listed}{more}.", UserWarning, stacklevel=1)
    return scenes


def zarr_absent(path: Path | str) -> list[str]:
    """Return the ids of images that a store lists but lacks: wells and fields of a plate."""
    root, base = open_root(path)
    entries = find_scenes(root, base)
    return [entry.id for entry in entries if entry.id and _is_absent(root, entry.path)]


def _is_absent(root: Root, path: str) -> bool:
    try:
        return root.node(path) is None and not _NUMBERED.fullmatch(path)
    except UnreadableFileError:
        return False


def zarr_labels(path: Path | str, scene: SceneId | None = None) -> list[str]:
    """List the readable label images of an image, each by the id with which it is opened."""
    root, base = open_root(path)
    image = base if scene is None else root.join(base, str(scene))
    folder = root.join(image, "labels")
    try:
        node = root.node(folder)
        names = as_list(node.ome.get("labels")) if node else []
        paths = [root.join(folder, name) for name in names if isinstance(name, str)]
        return [_below(base, path) for path in paths if root.node(path) is not None]
    except UnreadableFileError:
        return []


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
    return isinstance(node, ArrayNode) or read_multiscale(node) is not None


def _below(base: str, path: str) -> str:
    return path[len(base) + 1 :] if base else path
