"""The scenes of a CZI file: found, listed, laid out as a stack."""

from functools import lru_cache
from pathlib import Path
from time import time
from typing import Any

import numpy as np
from pylibCZIrw.czi import CziReader

from napari_patchset.axes import AxisLayout, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.czi.check import check_structure
from napari_patchset.stacks.czi.directory import CziDirectory, read_directory
from napari_patchset.stacks.czi.geometry import SceneGeometry, bounds, scene_geometry, scene_ids
from napari_patchset.stacks.czi.metadata import CziScene, parse_metadata
from napari_patchset.stacks.czi.subblock import check_subblocks
from napari_patchset.stacks.metadata import SceneSummary

CHECKED_AT_OPENING = 2000
"""Headers of so many subblocks are checked at once; of more, each before it is first decoded."""

_SETTLED_S = 2
"""A file that changed so recently may change again without its times telling it."""


def open_directory(path: Path) -> CziDirectory:
    """Read and check a CZI's structure; that of the last file is kept until the file changes.

    Raises
    ------
    UnreadableFileError
        If the file is no CZI, is damaged, or is of a kind that can't be read.
    """
    state = path.stat()
    if time() - max(state.st_mtime, state.st_ctime) < _SETTLED_S:
        return _checked_directory(path)
    which, when = (state.st_dev, state.st_ino), (state.st_mtime_ns, state.st_ctime_ns)
    return _kept_directory(path, (*which, state.st_size, *when))


@lru_cache(maxsize=1)
def _kept_directory(path: Path, _: tuple[int, ...]) -> CziDirectory:
    return _checked_directory(path)


def _checked_directory(path: Path) -> CziDirectory:
    directory = read_directory(path)
    check_structure(directory, path)
    blocks = directory.subblocks
    if len(blocks) <= CHECKED_AT_OPENING:
        check_subblocks(path, blocks, range(len(blocks)), directory.file_size)
    return directory


def find_scene(directory: CziDirectory, scene: SceneId | None, path: Path) -> SceneGeometry:
    """Find one scene, or the union of all for None.

    Raises
    ------
    ArgumentError
        If there is no such scene.
    """
    ids = scene_ids(directory.subblocks)
    if scene is None:
        return scene_geometry(directory.subblocks, None)
    if isinstance(scene, str) or scene not in ids:
        has = f"its scenes are {', '.join(map(str, ids))}" if ids else "it has no scenes"
        raise ArgumentError(f"{path}: there is no scene {scene}; {has}.")
    return scene_geometry(directory.subblocks, scene)


def czi_scenes(path: Path) -> list[SceneSummary]:
    """List the scenes of a CZI file; one without an id where it has none."""
    directory = open_directory(path)
    described = parse_metadata(directory.xml).scenes
    return [
        _summary(scene_geometry(directory.subblocks, scene), described, path)
        for scene in scene_ids(directory.subblocks) or (None,)
    ]


def reader_rectangles(reader: CziReader) -> dict[int | None, Rect]:
    """Give the rectangle of each scene in an open file, its level-0 subblocks taken together.

    libCZI's own list of scenes fails where their ids do not follow each other.
    """
    found: dict[int | None, list[tuple[int, int, int, int]]] = {}

    def add(_: int, block: Any) -> bool:
        rect, stored = block.logicalRect, block.physicalSize
        if (rect.w, rect.h) == (stored.w, stored.h):
            scene = block.coordinate.to_dict().get("S")
            found.setdefault(scene, []).append((rect.x, rect.y, rect.w, rect.h))
        return True

    reader.enumerate_subblocks(add)
    numbered = sorted(scene for scene in found if scene is not None)
    return {scene: bounds(np.array(found[scene])) for scene in numbered or (None,)}


def scene_layout(geometry: SceneGeometry, depth_axis: DepthAxis) -> AxisLayout:
    """Lay a scene out as a stack."""
    spatial = "" if depth_axis == "none" else depth_axis
    merged = "".join(axis for axis in geometry.sizes if axis not in f"C{spatial}")
    sizes = {
        **geometry.sizes,
        "C": len(geometry.components),
        "Y": geometry.rect.h,
        "X": geometry.rect.w,
    }
    axes = f"{merged}C{spatial}YX"
    return AxisLayout(axes, tuple(sizes[axis] for axis in axes), depth_axis)


def _summary(geometry: SceneGeometry, described: dict[int, CziScene], path: Path) -> SceneSummary:
    layout, scene = scene_layout(geometry, "none"), geometry.scene
    found = CziScene(path.stem) if scene is None else described.get(scene, CziScene())
    return SceneSummary(
        id=scene,
        name=found.name or f"Scene {scene}",
        rect=geometry.rect,
        axes=layout.axes,
        shape=layout.shape,
        dtype=geometry.dtype.name,
        well=found.well,
        center=found.center,
    )
