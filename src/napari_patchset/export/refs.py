"""Name the images of a plan: a file and its scene, and what lies beside it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar, get_args

from napari_patchset.errors import ArgumentError
from napari_patchset.export.failures import BROKEN
from napari_patchset.model import Frozen
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.source import SceneId
from napari_patchset.stacks.naming import is_remote, plain_path, split_source
from napari_patchset.stacks.opening import list_scenes

Ref = TypeVar("Ref", bound="ImageRef")
MASK = "mask"
"""The role of an image that a filter looks at; see `patchset.layout.ROLES` for the others."""

Beside = Literal["target", "labels", "mask"]
BESIDE: tuple[Beside, ...] = get_args(Beside)
"""The roles of what a source can have beside it: fields of `SourceRef`, options of the command."""


class ImageRef(Frozen):
    """Name one image: a file, and a scene where the file has several.

    Attributes
    ----------
    path : str
        The file, or the URL of a zarr store.
    scene : int, str or None
        The file's own id of the scene; None for the only one.
    """

    path: str
    scene: SceneId | None = None

    def resolved(self) -> Self:
        """Name the same image by an absolute path."""
        return self.model_copy(update={"path": absolute_path(self.path)})

    def __str__(self) -> str:
        return self.path if self.scene is None else f"{self.path}, scene {self.scene}"


class SourceRef(ImageRef):
    """Name an image that patches are cut from, and the ones of equal geometry beside it.

    Attributes
    ----------
    path, scene
        See `ImageRef`.
    target, labels : ImageRef or None
        What is cut at the same places and written beside it.
    mask : ImageRef or None
        What the filter `mask` looks at; None for `labels`.
    """

    target: ImageRef | None = None
    labels: ImageRef | None = None
    mask: ImageRef | None = None

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """Name an image by its path alone; "name.czi@3" chooses a scene."""
        file, scene = split_source(path)
        return cls(path=str(file), scene=scene)

    @property
    def images(self) -> dict[str, ImageRef]:
        """The image itself and those beside it, by role; where no mask is named, labels are it."""
        found: dict[str, ImageRef] = {IMAGE: self}
        if self.labels:
            found[MASK] = self.labels
        return found | {str(role): ref for role, ref in self.beside.items()}

    @property
    def beside(self) -> dict[Beside, ImageRef]:
        """What is named beside the image, by role."""
        named = {role: getattr(self, role) for role in BESIDE}
        return {role: ref for role, ref in named.items() if ref}

    def with_beside(self, change: Callable[[ImageRef], ImageRef]) -> Self:
        """Change each of the images beside this one."""
        return self.model_copy(update={role: change(ref) for role, ref in self.beside.items()})

    def resolved(self) -> Self:
        """Name the same images by absolute paths."""
        return super().resolved().with_beside(ImageRef.resolved)


def absolute_path(path: str) -> str:
    """Make a path absolute, for jobs that run in another folder; a URL stays as it is."""
    return path if is_remote(path) else os.path.abspath(plain_path(path))


def expand_sources(
    paths: Sequence[str | Path], scene: SceneId | Literal["all"] = "all"
) -> list[SourceRef]:
    """Name the images in files: all of their scenes, or one of them in each.

    Raises
    ------
    ArgumentError
        If a file has no such scene.
    """
    return [ref for path in paths for ref in _expand(path, scene)]


def choose_scenes(path: str | Path, scene: SceneId | None = None) -> list[SceneId | None]:
    """Give the ids of a file's scenes, or the one that is asked for.

    Raises
    ------
    ArgumentError
        If there is no such scene.
    """
    ids = [found.id for found in list_scenes(path)]
    if scene is None:
        return ids
    if scene not in ids:
        listed = ", ".join(map(str, ids))
        raise ArgumentError(f"{path}: there is no scene {scene}; its scenes are {listed}.")
    return [scene]


def _expand(path: str | Path, scene: SceneId | Literal["all"]) -> list[SourceRef]:
    chosen = None if scene == "all" else scene
    file, in_name = split_source(path, chosen)
    try:
        ids = choose_scenes(file, in_name)
    except BROKEN:  # the export says so, and goes on with the others
        ids = [in_name]
    return [SourceRef(path=str(file), scene=found) for found in ids]
