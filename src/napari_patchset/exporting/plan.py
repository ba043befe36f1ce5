"""ExportPlan: everything an export needs to know, as one model that is also its file.

Name the images of a plan: a file and its scene, and what lies beside it.

Sources that can't be read: one of many is left out and reported, the last one is an error.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from napari_patchset._model import Frozen
from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError, ExportError, UnreadableFileError
from napari_patchset.patching.filters import Filter
from napari_patchset.patching.splits import Split
from napari_patchset.patching.strategies import Strategy
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import ChannelId, SceneId, is_remote, local_path, split_source
from napari_patchset.stacks.opening import list_scenes

SOURCE_ERRORS = (UnreadableFileError, OSError)
"""What a file that is damaged or gone raises, as opposed to one that does not fit the plan."""


class Failure(Frozen):
    """A source whose patches are left out, and why."""

    source: str
    message: str

    def __str__(self) -> str:
        return self.message if self.source in self.message else f"{self.source}: {self.message}"


class SourcesFailed(ExportError):
    """Sources can't be read, or are not any more what was planned for.

    Attributes
    ----------
    failures : dict of int to Failure
        By the index of the source.
    """

    def __init__(self, failures: Mapping[int, Failure]) -> None:
        super().__init__("; ".join(map(str, failures.values())))
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[type["SourcesFailed"], tuple[dict[int, Failure]]]:
        return SourcesFailed, (self.failures,)


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
    return path if is_remote(path) else os.path.abspath(local_path(path))


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
    except SOURCE_ERRORS:  # the export says so, and goes on with the others
        ids = [in_name]
    return [SourceRef(path=str(file), scene=found) for found in ids]


_SEPARATORS = os.sep + (os.altsep or "")


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"there is no format {name!r}; choose one of {', '.join(FORMATS)}")
    return name


def _known_type(name: str) -> str:
    try:
        return np.dtype(name).name
    except TypeError:
        raise ValueError(
            f"there is no pixel type {name!r}; choose one like uint8, uint16 or float32"
        ) from None


class Recipe(Frozen):
    """How patches are chosen: the part of a plan that does not depend on where files lie.

    Attributes
    ----------
    strategy : Tiled, Random, Stratified, Fixed or Whole
        Where the patches lie.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch.
    channels : tuple of int or str, or None
        Channels by index or name, in this order; None for all.
    filters : tuple of filters
        A patch is kept if it passes each of them.
    keep_fraction : float
        The share of the patches rejected by a filter that is kept all the same.
    split : Split or None
        How patches are parted into training and validation ones; None for one group, "all".
    dtype : str or None
        NumPy's name of the pixel type to cast to, without loss; None for the sources' own.
    format : str
        What is written, a name in `FORMATS`: "zarr", "tiff", "npz" or "coordinates".
    codec : {"none", "zstd", "lz4"}
        How patches are compressed in a zarr.
    """

    strategy: Strategy
    depth_axis: DepthAxis = "none"
    channels: tuple[ChannelId, ...] | None = None
    filters: tuple[Filter, ...] = ()
    keep_fraction: float = Field(default=0.0, ge=0, le=1)
    split: Split | None = None
    dtype: Annotated[str, AfterValidator(_known_type)] | None = None
    format: Annotated[str, AfterValidator(_known_format)] = "zarr"
    codec: Literal["none", "zstd", "lz4"] = "none"

    @property
    def hash(self) -> str:
        """Digest of the recipe: equal for equal recipes."""
        return digest_bytes(self.model_dump_json().encode())


class ExportPlan(Recipe):
    """A recipe, the sources that it is applied to, and where the patch set goes.

    Parameters
    ----------
    sources : SourceRef, str or Path, or a sequence of them
        "name.czi@3" chooses a scene.
    out : str or Path
        The folder to write, NAME.patches.zarr; NAME.patches for the other formats.
    strategy, depth_axis, channels, filters, keep_fraction, split, dtype, format, codec
        See `Recipe`.

    Raises
    ------
    ValidationError
        If a value is not one of those, or `out` does not end as its format asks.
    """

    sources: tuple[SourceRef, ...]
    out: str

    @field_validator("sources", mode="before")
    @classmethod
    def _from_paths(cls, sources: Any) -> list[Any]:
        if isinstance(sources, (str, Path, SourceRef, Mapping)):
            sources = [sources]
        return [SourceRef.of(s) if isinstance(s, (str, Path)) else s for s in sources]

    @field_validator("out", mode="before")
    @classmethod
    def _from_path(cls, out: Any) -> Any:
        name = os.fspath(out) if isinstance(out, Path) else out
        return name.rstrip(_SEPARATORS) if isinstance(name, str) else name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ValueError("a plan needs at least one source")
        suffix = FORMATS[self.format].suffix
        if not self.out.endswith(suffix) or Path(self.out).name == suffix:
            raise ValueError(f"the patch set's name {self.out!r} must end in {suffix}")
        return self

    def resolved(self) -> Self:
        """Give the same plan with absolute paths, for jobs that run in another folder."""
        update = {
            "sources": tuple(ref.resolved() for ref in self.sources),
            "out": os.path.abspath(self.out),
            "strategy": self.strategy.with_mask_path(absolute_path),
        }
        return self.model_copy(update=update)

    @property
    def recipe(self) -> Recipe:
        """The part that does not depend on where files lie."""
        fields = {name: getattr(self, name) for name in Recipe.model_fields}
        return Recipe(**fields | {"strategy": self.strategy.with_mask_path(lambda _: None)})
