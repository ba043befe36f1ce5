"""Open an image of a zarr store."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import zarr

from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError, MissingAxisError, UnreadableFileError
from napari_patchset.source import SceneId
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.zarr.entry import is_zarr
from napari_patchset.stacks.zarr.ome import image_metadata, label_paths, label_values, translation
from napari_patchset.stacks.zarr.scenes import Resolution, ZarrImage, find_image, summaries
from napari_patchset.stacks.zarr.stack import ZarrImageStack
from napari_patchset.stacks.zarr.store import LocalRoot, RemoteRoot, Root, read_node, reason
from napari_patchset.stacks.zarr.validation import check_channels, check_chunks

_LISTED = 20


def zarr_scenes(path: Path | str) -> list[SceneSummary]:
    """List the images of a store; one without an id where it is a single image.

    Parameters
    ----------
    path : Path or str
        A folder at the top of a store or within one, or a URL.
    """
    found, problems = summaries(*_locate(path))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        warnings.warn(f"left out: {problems[0]}{more}", UserWarning, stacklevel=2)
    return found


def zarr_labels(path: Path | str, scene: SceneId | None = None) -> list[str]:
    """List the label images of an image, each by the name by which `open_zarr` opens it."""
    root, base = _locate(path)
    image = base if scene is None else root.join(base, str(scene))
    below = len(base) + 1 if base else 0
    return [label[below:] for label in label_paths(root, image)]


def open_zarr(
    path: Path | str, scene: SceneId | None = None, depth_axis: DepthAxis = "none"
) -> ZarrImageStack:
    """Open one image of a store as a stack, with its lower resolutions as `levels`.

    Parameters
    ----------
    path : Path or str
        A folder at the top of a store or within one, or a URL.
    scene : int, str or None
        The image's path below `path`, such as "A/1/0", labels too; None for the only one.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch.

    Warns
    -----
    UserWarning
        If the metadata is older or invalid, and the pixels can be had.

    Raises
    ------
    ValueError
        If the store has several images and none is chosen, or there is no such one.
    RuntimeError
        If the image does not contain the depth axis.
    UnreadableFileError
        If the pixels can't be had.
    """
    root, base = _locate(path)
    if scene is None:
        scene = _only_scene(root, base)
    target = base if scene is None else root.join(base, str(scene))
    image = find_image(root, target)
    if image is None:
        raise ArgumentError(f"{path}: there is no scene {scene!r}; {_listing(root, base)}.")
    if problems := image.problems():
        warnings.warn(f"{root.label(target)}: {problems}.", UserWarning, stacklevel=2)
    return _stack(root, image, scene, depth_axis)


def _locate(path: Path | str) -> tuple[Root, str]:
    """Give a store and the path in it; an array is seen from the image that it is part of."""
    if isinstance(path, str) and "://" in path:
        return RemoteRoot(path), ""
    path = Path(path)
    root = LocalRoot(path)
    node = read_node(root, "")
    if node is not None and node.head is not None:
        around = LocalRoot(path.absolute().parent)
        if is_zarr(around.path, b""):
            return around, path.absolute().name
    return root, ""


def _only_scene(root: Root, base: str) -> SceneId | None:
    found, _ = summaries(root, base)
    if len(found) > 1:
        raise ArgumentError(
            f"{root.label(base)} has {len(found)} scenes; choose one: {_ids(found)}."
        )
    return found[0].id


def _listing(root: Root, base: str) -> str:
    found, _ = summaries(root, base)
    return "it is a single image" if found[0].id is None else f"there are {_ids(found)}"


def _ids(found: list[SceneSummary]) -> str:
    more = ", ..." if len(found) > _LISTED else ""
    return ", ".join(str(scene.id) for scene in found[:_LISTED]) + more


def _stack(
    root: Root, image: ZarrImage, scene: SceneId | None, depth_axis: DepthAxis
) -> ZarrImageStack:
    first, *others = image.resolutions
    coarser = _coarser(root, image, others, depth_axis)
    return _level(root, image, first, depth_axis, scene, coarser)


def _coarser(
    root: Root, image: ZarrImage, others: list[Resolution], depth_axis: DepthAxis
) -> list[ZarrImageStack]:
    """Open the lower resolutions; one that can't be is left out, and that is said."""
    found = []
    for resolution in others:
        try:
            found.append(_level(root, image, resolution, depth_axis))
        except MissingAxisError:  # the depth axis was reduced to one plane
            continue
        except UnreadableFileError as error:
            warnings.warn(f"a lower resolution is left out: {error}", UserWarning, stacklevel=4)
    return found


def _level(
    root: Root,
    image: ZarrImage,
    resolution: Resolution,
    depth_axis: DepthAxis,
    scene: SceneId | None = None,
    coarser: Sequence[ZarrImageStack] = (),
) -> ZarrImageStack:
    described, level, axes = image.multiscale, resolution.level, image.axes
    n_channels = dict(zip(axes, resolution.head.shape, strict=True)).get("C", 1)
    check_channels(n_channels, root.label(resolution.path))
    array = _open_array(root, resolution)
    metadata = image_metadata(described, level, axes, n_channels)
    stack = ZarrImageStack.from_array(
        array,
        axes,
        depth_axis,
        scene=scene,
        metadata=replace(metadata, labels=label_values(image.node)),
        translation=translation(described, level, axes) if described else {},
        coarser=coarser,
    )
    folder = root.folder(resolution.path)
    if folder is not None:
        check_chunks(array, folder, root.label(resolution.path))
    return stack


def _open_array(root: Root, resolution: Resolution) -> zarr.Array[Any]:
    root.folder(resolution.path)  # zarr itself would follow a link out of the store
    try:
        return zarr.open_array(
            root.store(), path=resolution.path, mode="r", zarr_format=resolution.zarr_format
        )
    except Exception as error:  # zarr has no one error for metadata that it can't read
        raise UnreadableFileError(
            f"{root.label(resolution.path)}: zarr can't open this array: {reason(error)}."
        ) from error
