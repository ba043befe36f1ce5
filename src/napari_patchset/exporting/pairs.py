"""Images that are paired with sources: one file for all, or one of the same name in a folder."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.annotations.geojson import SUFFIXES as GEOJSON_SUFFIXES
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.image_refs import (
    ANNOTATIONS,
    AnnotationsRef,
    ImageRef,
    SourceRef,
)
from napari_patchset.patchset.layout import LABELS
from napari_patchset.source import is_remote, local_path, split_source
from napari_patchset.stacks.opening import scene_ids
from napari_patchset.stacks.zarr.store import is_zarr


def with_annotations(
    sources: Sequence[SourceRef], path: str, class_names: str | None
) -> list[SourceRef]:
    """Pair each source with annotations: a file, or one of its name in a folder."""
    files = {ref: _annotations_of(ref, path) for ref in sources}
    if len(files) > len(set(files.values())) and not Path(path).is_dir():
        raise ArgumentError(
            f"--annotations is {path}, one file for {len(files)} images; name a folder that holds "
            "NAME.geojson for each of them, and NAME@SCENE.geojson for a scene."
        )
    names = {} if class_names is None else {"classes": class_names}
    paired = []
    for ref, file in files.items():
        name, scene = (file, None) if is_geojson(file) else split_source(file)
        try:
            image = AnnotationsRef.model_validate({"path": str(name), "scene": scene, **names})
        except ValidationError as error:
            raise ArgumentError(f"{user_message(error, lambda _: '--class-names')}.") from error
        paired.append(ref.model_copy(update={ANNOTATIONS: image}).with_pair_scenes())
    return paired


def _annotations_of(ref: SourceRef, path: str) -> str:
    """Return the annotations of a source in a folder, else the path itself.

    Raises
    ------
    ArgumentError
        Naming the files that would do.
    """
    folder = Path(local_path(path))
    if is_remote(path) or not folder.is_dir() or is_zarr(folder):
        return path
    name = Path(ref.path).name
    stems = list(dict.fromkeys([name, Path(name).stem, name.partition(".")[0]]))
    scene = "" if ref.scene is None else f"@{ref.scene}".replace("/", "_")
    named = [
        folder / f"{stem}{of}{suffix}"
        for of in dict.fromkeys([scene, ""])
        for stem in stems
        for suffix in GEOJSON_SUFFIXES
    ]
    for file in (*named, folder / name):
        if file.exists():
            return str(file)
    raise ArgumentError(
        f"{path} has no annotations of {ref}: there is no {named[0].name} or {named[-2].name}; an "
        'image without any outline has a file with "features": [].'
    )


def with_images(sources: Sequence[SourceRef], role: str, path: str) -> list[SourceRef]:
    """Pair each source with the image at a path: a file, or a folder with a file of its name."""
    if role == LABELS and path == ANNOTATIONS and not Path(path).exists():
        return [_with_drawn_labels(ref) for ref in sources]
    files = {ref.path: _partner(ref.path, path, role) for ref in sources}
    if len(files) > len(set(files.values())):
        raise ArgumentError(
            f"--{role} is {path}, one image for {len(files)} files; name a folder that holds a "
            "file of the same name for each of them."
        )
    images = {}
    for partner in files.values():
        file, scene = split_source(partner)
        if scene is not None:
            scene_ids(file, scene)
        images[partner] = ImageRef(path=str(file), scene=scene)
    return [
        SourceRef.model_validate({**dict(ref), role: images[files[ref.path]]}).with_pair_scenes()
        for ref in sources
    ]


def _with_drawn_labels(ref: SourceRef) -> SourceRef:
    """Return a source whose labels are drawn from its annotations."""
    if ref.annotations is None:
        raise ArgumentError("--labels annotations draws the classes of --annotations; name these.")
    labels = ImageRef(path=ref.annotations.path, scene=ref.annotations.scene)
    return ref.model_copy(update={LABELS: labels})


def _partner(file: str, path: str, role: str) -> str:
    """Return the file of the same name in a folder, else the path itself."""
    if is_remote(path):
        return path
    path = local_path(path)
    same_name = Path(path, Path(file).name)
    if same_name.exists():
        return str(same_name)
    if Path(path).is_dir() and not is_zarr(Path(path)):
        raise ArgumentError(
            f"--{role} is {path}, a folder that has no file {same_name.name} for {file}; the names "
            "must be the same."
        )
    return path
