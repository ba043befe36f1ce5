"""What one path of a store holds as an image: its arrays by resolution, and their axes."""

from dataclasses import dataclass
from math import prod

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.zarr.axes import Axis, axes_by_position, axis_letters
from napari_patchset.stacks.zarr.multiscales import Level, Multiscale, complaint, read_multiscale
from napari_patchset.stacks.zarr.nodes import ArrayHead, Node, ZarrFormat, read_node
from napari_patchset.stacks.zarr.roots import Root


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
