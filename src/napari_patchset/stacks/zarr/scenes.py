"""Which images a store holds: one, a plate's fields, the series of a file, or a group's arrays."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.zarr.images import ZarrImage, find_image
from napari_patchset.stacks.zarr.multiscales import read_multiscale
from napari_patchset.stacks.zarr.nodes import Node, read_node
from napari_patchset.stacks.zarr.plates import Field, field_rects, plate_fields
from napari_patchset.stacks.zarr.roots import Root

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
