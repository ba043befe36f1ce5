"""The plan of an export: sources, choice of patches, and destination.

`ExportPlan` is one frozen model that is also its own JSON file. It is a `Recipe`, which does not
depend on where files lie, with `SourceRef`s, each of which names an image and the images that are
paired with it, and an output path.
"""

import operator
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from napari_patchset._model import Frozen
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.annotations.polygons import MAX_CLASSES
from napari_patchset.axes import DepthAxis
from napari_patchset.channels import ChannelId, channel_indices, format_channels, parse_channels
from napari_patchset.credentials import strip_credentials
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters import Filter, PatchFilter
from napari_patchset.patching.measurements import other_channels
from napari_patchset.patching.overrides import Override
from napari_patchset.patching.splits import Split
from napari_patchset.patching.strategies import Strategy
from napari_patchset.patchset.layout import IMAGE, PIXEL_TYPE_PATTERN
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import (
    PixelSize,
    SceneId,
    is_remote,
    local_path,
    path_text,
    split_source,
)
from napari_patchset.stacks.metadata import SceneSummary, parse_pixel_size
from napari_patchset.stacks.opening import list_scenes
from napari_patchset.stacks.sequence import SequenceAxis

MASK = "mask"
"""The role of an image that a filter reads; see `patchset.layout.ROLES` for the others."""

ANNOTATIONS = "annotations"
"""The role of outlines with a class, or of a labels image whose values have names."""

PairRole = Literal["target", "labels", "mask", "annotations"]
PAIR_ROLES: tuple[PairRole, ...] = get_args(PairRole)
"""The roles of images paired with a source: fields of `SourceRef`, options of the command."""


OVERRIDES = ("axes", "pixel_size", "channel_names", "sequence", "files")
"""The fields of an image that override the metadata of the file."""


def _is_none(value: object) -> bool:
    return value is None


def _parse_path(path: Any) -> Any:
    """Return a path as text, without a password or token in a URL."""
    if not isinstance(path, str | Path):
        return path
    return strip_credentials(str(path)) if is_remote(path) else path_text(path)


def _parse_pixel_size(value: Any) -> Any:
    is_parsed = value is None or isinstance(value, PixelSize | dict)
    return value if is_parsed else parse_pixel_size(value)


def _parse_names(value: Any) -> Any:
    return tuple(map(str, parse_channels(value))) if isinstance(value, str) else value


class ImageRef(Frozen):
    """Name one image: a file, and a scene where the file has several.

    Attributes
    ----------
    path : str
        The file, or the URL of a zarr store.
    scene : int, str or None
        The file's own id of the scene; None for the only one.
    axes, pixel_size, channel_names
        Overrides of the file's metadata, see `open_stack`; None for the file's own.
    sequence, files : str, tuple of str
        Files that are one image along T, Z or C, and that axis; `path` is the first of them.
    """

    path: Annotated[str, BeforeValidator(_parse_path)]
    scene: SceneId | None = None
    axes: str | None = Field(
        default=None, description="Axes of the files, instead of their own: ZYX, TCYX."
    )
    pixel_size: Annotated[PixelSize | None, BeforeValidator(_parse_pixel_size)] = Field(
        default=None,
        description="Pixel size of the files in micrometres: 0.2, or Z,Y,X as 1,0.2,0.2.",
    )
    channel_names: Annotated[tuple[str, ...] | None, BeforeValidator(_parse_names)] = Field(
        default=None, description='Names of the channels: DAPI,EGFP or "Alexa 488, em 520",405.'
    )
    sequence: SequenceAxis | None = Field(
        default=None,
        description="The axis along which the files, in the order of their names, are one image.",
    )
    files: tuple[Annotated[str, BeforeValidator(_parse_path)], ...] | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """The user's overrides of metadata, as arguments of `open_stack`."""
        values = {name: getattr(self, name) for name in OVERRIDES}
        return {name: value for name, value in values.items() if value is not None}

    @model_serializer(mode="wrap")
    def _without_unset_overrides(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {n: value for n, value in fields.items() if value is not None or n not in OVERRIDES}

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """Return the reference that a path alone means; "name.czi@3" chooses a scene."""
        file, scene = split_source(path)
        return cls(path=str(file), scene=scene)

    def resolved(self) -> Self:
        """Return a reference to the same image by an absolute path."""
        update: dict[str, Any] = {"path": absolute_path(self.path)}
        if self.files is not None:
            update["files"] = tuple(map(absolute_path, self.files))
        return self.model_copy(update=update)

    def __str__(self) -> str:
        return self.path if self.scene is None else f"{self.path}, scene {self.scene}"


def _parse_class_names(value: Any) -> Any:
    """Parse "1=Tumor,2=Stroma", or a dict of values by name."""
    if not isinstance(value, str):
        return tuple(value.items()) if isinstance(value, Mapping) else value
    pairs = [str(part).partition("=") for part in parse_channels(value)]
    if wrong := [pair for pair in pairs if not pair[0].strip().isdecimal() or not pair[2].strip()]:
        raise ValueError(
            f"{''.join(wrong[0])!r} does not name a value; write 1=Tumor,2=Stroma, and in quotes "
            'what has a comma: "1=Tumor, invasive",2=Stroma'
        )
    return tuple((name.strip(), int(number)) for number, _, name in pairs)


def format_class_names(classes: Sequence[tuple[str, int]]) -> str:
    """Return the names of values as text, "1=Tumor,2=Stroma"."""
    return format_channels(f"{value}={name}" for name, value in classes)


class AnnotationsRef(ImageRef):
    """Name the annotations of a source: a GeoJSON file, or a labels image with named values.

    Attributes
    ----------
    path, scene
        See `ImageRef`; a GeoJSON file has no scene.
    classes : tuple of (str, int)
        The value of each class in a labels image; a dict in JSON, and may be passed as one, or as
        text, "1=Tumor,2=Stroma".
    """

    classes: Annotated[
        tuple[tuple[str, Annotated[int, Field(ge=1, le=MAX_CLASSES)]], ...],
        BeforeValidator(_parse_class_names),
        PlainSerializer(dict, return_type=dict[str, int]),
    ] = Field(default=(), exclude_if=operator.not_)

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if is_geojson(self.path) and self.classes:
            raise ValueError(f"{self.path} has classes of its own; name none")
        if not is_geojson(self.path) and not self.classes:
            raise ValueError(
                f"{self.path} is no GeoJSON file; of a labels image, name the classes of its "
                "values, like 1=Tumor,2=Stroma"
            )
        if any(len(set(each)) < len(each) for each in zip(*self.classes, strict=True)):
            named = format_class_names(self.classes)
            raise ValueError(f"{named}: a value has two names, or a name two values")
        return self


def _path_of(image: Any) -> str | None:
    """Return the path of an image, before it is validated."""
    if isinstance(image, Mapping):
        image = image.get("path")
    return str(getattr(image, "path", image)) if image is not None else None


class SourceRef(ImageRef):
    """Name a source, and the images of the same geometry that are paired with it.

    Attributes
    ----------
    path, scene
        See `ImageRef`.
    target, labels : ImageRef, str, Path or None
        Images that are cut at the same positions and written next to the source's patches.
        Labels may be a GeoJSON file: its classes are drawn; "annotations" for that of these.
    mask : ImageRef, str, Path or None
        The image that the filter `mask` reads; None for `labels`.
    columns : tuple of (str, str)
        Its values in the samples sheet, by column; a dict in JSON, and may be passed as one.
    annotations : AnnotationsRef, str, Path or None
        Outlines with a class, for regions, filters and labels.
    """

    target: ImageRef | None = None
    labels: ImageRef | None = None
    mask: ImageRef | None = None
    columns: Annotated[
        tuple[tuple[str, str], ...],
        BeforeValidator(lambda value: tuple(value.items()) if isinstance(value, dict) else value),
        PlainSerializer(dict, return_type=dict[str, str]),
    ] = Field(default=(), exclude_if=operator.not_)
    annotations: AnnotationsRef | None = Field(default=None, exclude_if=_is_none)

    @model_validator(mode="before")
    @classmethod
    def _draw_annotations(cls, data: Any) -> Any:
        """Resolve labels that are the annotations, and annotations that are only labels."""
        if not isinstance(data, Mapping):
            return data
        labels, annotations = _path_of(data.get("labels")), data.get(ANNOTATIONS)
        if labels == ANNOTATIONS and annotations is not None:
            scene = annotations.get("scene") if isinstance(annotations, Mapping) else None
            scene = getattr(annotations, "scene", scene)
            return {**data, "labels": {"path": _path_of(annotations), "scene": scene}}
        if annotations is None and labels is not None and is_geojson(labels):
            return {**data, ANNOTATIONS: {"path": labels}}
        return data

    @field_validator(*PAIR_ROLES, mode="before")
    @classmethod
    def _from_path(cls, image: Any) -> Any:
        if not isinstance(image, str | Path):
            return image
        if is_geojson(image):
            return {"path": image}
        file, scene = split_source(image)
        return {"path": str(file), "scene": scene}

    @property
    def images(self) -> dict[str, ImageRef]:
        """The source itself and its paired images, by role; labels stand in for a missing mask."""
        images: dict[str, ImageRef] = {IMAGE: self}
        if self.labels:
            images[MASK] = self.labels
        return images | {str(role): ref for role, ref in self.pairs.items()}

    @property
    def pairs(self) -> dict[PairRole, ImageRef]:
        """The paired images, by role."""
        named = {role: getattr(self, role) for role in PAIR_ROLES}
        return {role: ref for role, ref in named.items() if ref}

    def with_pairs(self, change: Callable[[ImageRef], ImageRef]) -> Self:
        """Return a copy with each of the paired images changed."""
        return self.model_copy(update={role: change(ref) for role, ref in self.pairs.items()})

    def with_pair_scenes(
        self, list_scenes: Callable[[str], Sequence[SceneSummary]] = list_scenes
    ) -> Self:
        """Return a copy in which each paired image has a scene.

        In a file of several scenes, that is the one with the id of the source's scene; raise
        ArgumentError if there is none.
        """

        def with_scene(image: ImageRef) -> ImageRef:
            if image.scene is not None or is_geojson(image.path):
                return image
            ids = [summary.id for summary in list_scenes(image.path)]
            if len(ids) > 1 and self.scene not in ids:
                raise ArgumentError(
                    f"{image.path} has no scene {self.scene} to pair with {self}; its scenes are "
                    f"{', '.join(map(str, ids))}."
                )
            return image.model_copy(update={"scene": self.scene if len(ids) > 1 else ids[0]})

        return self.with_pairs(with_scene)

    def resolved(self) -> Self:
        """Return a reference to the same images by absolute paths."""
        return super().resolved().with_pairs(ImageRef.resolved)


def absolute_path(path: str) -> str:
    """Make a path absolute, for jobs that run in another folder; leave a URL unchanged."""
    return path if is_remote(path) else path_text(os.path.abspath(local_path(path)))


def _check_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"there is no format {name!r}; choose one of {', '.join(FORMATS)}")
    return name


def _check_dtype(name: str) -> str:
    with suppress(TypeError):
        dtype = np.dtype(name).name
        if re.fullmatch(PIXEL_TYPE_PATTERN, dtype):
            return dtype
    raise ValueError(f"there is no pixel type {name!r}; choose one like uint8, uint16 or float32")


def _check_made_size(size: PixelSize | None) -> PixelSize | None:
    if size is not None and (size.z is not None or None in (size.y, size.x)):
        raise ValueError("pixels are resampled along Y and X; give one or two numbers, like 0.5")
    return size


def _parse_channels(channels: Any) -> Any:
    if isinstance(channels, str):
        return parse_channels(channels)
    return (channels,) if isinstance(channels, int) else channels


def _parse_split(split: Any) -> Any:
    return {"val": split} if isinstance(split, int | float) else split


def _is_empty(value: Sequence[object]) -> bool:
    return not value


class Recipe(Frozen):
    """The choice of patches: the part of a plan that does not depend on file paths.

    A value with a text form may be passed as text: `filters=["std>5"]`, `channels="0,DAPI"`,
    `split=0.1` for `Split(val=0.1)`.
    """

    strategy: Strategy = Field(description="How patches are chosen.")
    depth_axis: DepthAxis = Field(default="none", description="Third axis of a patch.")
    channels: Annotated[tuple[ChannelId, ...] | None, BeforeValidator(_parse_channels)] = Field(
        default=None, description="Channels by index or name, in this order: 0,2 or DAPI,EGFP."
    )
    pixel_size: Annotated[
        PixelSize | None, BeforeValidator(_parse_pixel_size), AfterValidator(_check_made_size)
    ] = Field(
        default=None,
        description="Pixel size of the patches along Y,X in micrometres, to resample to; it can't "
        "be smaller than that of the files.",
        exclude_if=_is_none,
    )
    filters: tuple[Filter, ...] = Field(
        default=(), description="Keep only patches that pass, like std>5, max[DAPI]>p10, mean<otsu."
    )
    keep_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Share of the rejected patches to export nevertheless."
    )
    overrides: tuple[Override, ...] = Field(
        default=(),
        description="Patches to export or reject by hand, whatever the filters say.",
        exclude_if=_is_empty,
    )
    split: Annotated[Split | None, BeforeValidator(_parse_split)] = Field(
        default=None,
        description="Training, validation and test patches; None for one group, all.",
    )
    dtype: Annotated[str, AfterValidator(_check_dtype)] | None = Field(
        default=None, description="Pixel type to cast to; an error if values would be lost."
    )
    format: Annotated[str, AfterValidator(_check_format)] = Field(
        default="zarr", description="Format of the patch set."
    )
    codec: CodecName = Field(default="none", description="Compression of a zarr.")

    @field_validator("filters", mode="before")
    @classmethod
    def _from_one_filter(cls, filters: Any) -> Any:
        return [filters] if isinstance(filters, str | PatchFilter) else filters

    def read_channels(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the channels that are exported, and those that only a filter measures.

        Parameters
        ----------
        names : sequence of str
            The names of the source's channels.

        Raises
        ------
        ArgumentError
            If there is no such channel, or several have its name.
        """
        chosen = channel_indices(names, self.channels)
        exported = [names[channel] for channel in chosen]
        return chosen, other_channels(self.filters, exported, names)

    def with_overrides_of(self, keys: Collection[str]) -> Self:
        """Return the recipe without overrides of other sources, by their keys."""
        overrides = tuple(each for each in self.overrides if each.source in keys)
        return self.model_copy(update={"overrides": overrides})

    @property
    def hash(self) -> str:
        """Digest of the recipe: equal for equal recipes."""
        return digest_bytes(self.model_dump_json().encode())


class ExportPlan(Recipe):
    """A recipe, the sources that it is applied to, and where the patch set goes.

    Parameters
    ----------
    sources : str, Path or SourceRef, or a sequence of them
        "name.czi@3" is scene 3 of a file; a `SourceRef` also names labels, annotations and others.
    out : str or Path
        The folder to write, NAME.patches.zarr; NAME.patches for the other formats.
    strategy : Tiled, Random, Stratified, Balanced, Fixed or Whole
        How patches are chosen.
    depth_axis : {"none", "Z", "T"}
        The axis that is the third one of a patch.
    channels : tuple of int or str, or str, or None
        Channels by index or name, in this order; "0,DAPI" for both; None for all.
    pixel_size : PixelSize, float, str or None
        In micrometres along Y and X: every source is resampled to it. None for the sources' own.
    filters : sequence of filters or str
        A patch must pass each of them: `["std>5", "mean<otsu"]`.
    keep_fraction : float
        Share of the patches rejected by a filter to export nevertheless, 0 to 1.
    overrides : tuple of Override
        Patches to export or reject by hand, whatever the filters say.
    split : Split, float or None
        Training, validation and test patches; a number is the share for validation. None for one
        group, "all".
    dtype : str or None
        NumPy's name of the pixel type to cast to, refused where values would be lost; None for
        the sources' own.
    format : {"zarr", "tiff", "npz", "coordinates"}
        What is written.
    codec : {"none", "zstd", "lz4"}
        Compression of a zarr.

    Raises
    ------
    ValidationError
        If a value is not one of those, or `out` does not end as its format requires.
    """

    sources: tuple[SourceRef, ...]
    out: str

    @field_validator("sources", mode="before")
    @classmethod
    def _from_paths(cls, sources: Any) -> list[Any]:
        if isinstance(sources, str | Path | SourceRef | Mapping):
            sources = [sources]
        return [SourceRef.from_path(s) if isinstance(s, str | Path) else s for s in sources]

    @field_validator("out", mode="before")
    @classmethod
    def _from_path(cls, out: Any) -> Any:
        name = os.fspath(out) if isinstance(out, Path) else out
        return name.rstrip(os.sep + (os.altsep or "")) if isinstance(name, str) else name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ValueError("a plan needs at least one source")
        if is_remote(self.out):
            raise ValueError(
                f"a patch set is written to a disk, not to {strip_credentials(self.out)}; "
                "write it to a folder, and copy that"
            )
        suffix = FORMATS[self.format].suffix
        if not self.out.endswith(suffix) or Path(self.out).name == suffix:
            raise ValueError(f"the patch set's name {self.out!r} must end in {suffix}")
        return self

    def resolved(self) -> Self:
        """Return the same plan with absolute paths, for jobs that run in another folder."""
        update = {
            "sources": tuple(ref.resolved() for ref in self.sources),
            "out": os.path.abspath(self.out),
            "strategy": self.strategy.with_region_path(absolute_path),
        }
        return self.model_copy(update=update)

    @property
    def paths(self) -> set[str]:
        """The paths and URLs of all images."""
        images = [image for ref in self.sources for image in ref.images.values()]
        return {path for image in images for path in (image.path, *(image.files or ()))}

    @property
    def recipe(self) -> Recipe:
        """The part that does not depend on where files lie."""
        fields = {name: getattr(self, name) for name in Recipe.model_fields}
        return Recipe(**fields | {"strategy": self.strategy.with_region_path(lambda _: None)})
