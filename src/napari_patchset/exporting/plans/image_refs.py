"""Images as a plan names them: the file, the scene in it, and what overrides its metadata.

A source (`SourceRef`) also names the images of the same geometry that are paired with it: target,
labels, mask and annotations.
"""

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from napari_patchset._model import Settings
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.annotations.polygons import MAX_CLASSES
from napari_patchset.axes import DepthAxis
from napari_patchset.channels import format_channels, parse_channels
from napari_patchset.credentials import strip_credentials
from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.source import (
    PixelSize,
    SceneId,
    is_remote,
    local_path,
    path_text,
    split_source,
)
from napari_patchset.stacks.metadata import SceneSummary, parse_pixel_size
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.protocol import ClosableStack
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


def _parse_path(path: Any) -> Any:
    """Return a path as text, without a password or token in a URL."""
    if not isinstance(path, str | Path):
        return path
    return strip_credentials(str(path)) if is_remote(path) else path_text(path)


def _parse_pixel_size(value: Any) -> Any:
    is_parsed = value is None or isinstance(value, PixelSize | dict)
    return value if is_parsed else parse_pixel_size(value)


ParsedPixelSize = Annotated[PixelSize | None, BeforeValidator(_parse_pixel_size)]
"""A pixel size, also as text: 0.2, or Z,Y,X as 1,0.2,0.2."""


def _parse_names(value: Any) -> Any:
    return tuple(map(str, parse_channels(value))) if isinstance(value, str) else value


class ImageRef(Settings):
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
        default=None,
        description="Axes of the files, a letter for each dimension, if they state none or wrong "
        "ones: ZYX, TCYX.",
    )
    pixel_size: ParsedPixelSize = Field(
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

    def open(
        self,
        depth_axis: DepthAxis = "none",
        opener: Callable[..., ClosableStack] = open_stack,
    ) -> ClosableStack:
        """Open the image, with the user's overrides; see `open_stack`."""
        return opener(self.path, self.scene, depth_axis, **self.overrides)

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
            raise ValueError(f"{self.path} has its own names of classes; give it no others")
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
    annotations: AnnotationsRef | None = Field(default=None, exclude_if=operator.not_)

    @model_validator(mode="before")
    @classmethod
    def _draw_annotations(cls, data: Any) -> Any:
        """Resolve labels that are the annotations, and annotations that are only labels."""
        if not isinstance(data, Mapping):
            return data
        if "class_names" in data:
            raise ValueError(
                "a source has no class_names; name them in its annotations, like "
                'AnnotationsRef(path="labels.tif", classes="1=Tumor,2=Stroma")'
            )
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

    @property
    def draws_labels(self) -> bool:
        """Whether the labels are the classes of the outlines."""
        outlines = self.annotations.path if self.annotations else ""
        return self.labels is not None and self.labels.path == outlines and is_geojson(outlines)

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

    def without_columns(self) -> Self:
        """Return the source without its values in the samples sheet."""
        return self.model_copy(update={"columns": ()}) if self.columns else self

    def resolved(self) -> Self:
        """Return a reference to the same images by absolute paths."""
        return super().resolved().with_pairs(ImageRef.resolved)


def absolute_path(path: str) -> str:
    """Make a path absolute, for jobs that run in another folder; leave a URL unchanged."""
    return path if is_remote(path) else path_text(os.path.abspath(local_path(path)))
