"""The scenes of a CZI file: found, listed, laid out as a stack."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_patchset.axes import AxisLayout, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.czi.decoding import SubblockDecoder
from napari_patchset.stacks.czi.directory import CziDirectory, check_structure, read_directory
from napari_patchset.stacks.czi.geometry import SceneGeometry, bounds, scene_geometry, scene_ids
from napari_patchset.stacks.czi.metadata import CziScene, parse_metadata
from napari_patchset.stacks.czi.subblocks import Located, locate_all
from napari_patchset.stacks.metadata import SceneSummary

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader

CHECKED_AT_OPENING = 2000
"""Headers of so many subblocks are checked at once; of more, each before it is first decoded."""

_MOST_KEPT = 200_000
"""Subblocks of all files that are kept, about 150 bytes each; the last file is kept in any case."""


class CziScenes:
    """What a CZI says of its scenes, each part of it worked out once; threads may share it."""

    def __init__(self, directory: CziDirectory, path: Path) -> None:
        self.blocks = directory.subblocks
        self.metadata = parse_metadata(directory.xml)
        self._path, self._file_size = path, directory.file_size
        self._located = Located(len(self.blocks))
        self._geometries: dict[int | None, SceneGeometry] = {}

    def check_subblocks(self) -> None:
        """Refuse a file of which a subblock is not what the directory says."""
        locate_all(self._path, self.blocks, self._file_size, self._located)

    def decoder(self) -> SubblockDecoder:
        """Give what decodes single subblocks; whoever asks for it closes it."""
        return SubblockDecoder(self._path, self.blocks, self._file_size, self._located)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The file's own ids of its scenes, in order; none where no subblock names one."""
        return scene_ids(self.blocks)

    def geometry(self, scene: SceneId | None) -> SceneGeometry:
        """Find one scene, or the union of all for None.

        Raises
        ------
        ArgumentError
            If there is no such scene.
        """
        if scene is not None and (isinstance(scene, str) or scene not in self.ids):
            ids = self.ids
            has = f"its scenes are {', '.join(map(str, ids))}" if ids else "it has no scenes"
            raise ArgumentError(f"{self._path}: there is no scene {scene}; {has}.")
        if scene not in self._geometries:
            self._geometries[scene] = scene_geometry(self.blocks, scene)
        return self._geometries[scene]

    def all(self) -> list[SceneGeometry]:
        """Give every scene; where subblocks name none, the one that all of them make."""
        return [self.geometry(scene) for scene in self.ids or (None,)]


_KEPT: FileCache[CziScenes] = FileCache(_MOST_KEPT, lambda scenes: len(scenes.blocks))


def read_scenes(path: Path) -> CziScenes:
    """Read and check a CZI's structure, once until the file changes.

    Raises
    ------
    UnreadableFileError
        If the file is no CZI, is damaged, or is of a kind that can't be read.
    """
    return _KEPT.get(path, _read_scenes)


def _read_scenes(path: Path) -> CziScenes:
    directory = read_directory(path)
    check_structure(directory, path)
    scenes = CziScenes(directory, path)
    if len(scenes.blocks) <= CHECKED_AT_OPENING:
        scenes.check_subblocks()
    return scenes


def czi_scenes(path: Path) -> list[SceneSummary]:
    """List the scenes of a CZI file; one without an id where it has none."""
    scenes = read_scenes(path)
    return [_summary(geometry, scenes.metadata.scenes, path) for geometry in scenes.all()]


def reader_rectangles(reader: "CziReader") -> dict[int | None, Rect]:
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
