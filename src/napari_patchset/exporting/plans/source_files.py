"""Files as sources: every scene of a file, the images in a folder, or a sequence as one image.

Also as images that are paired with sources: one file for all, or a folder with a file for each.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.annotations.geojson import SUFFIXES as GEOJSON_SUFFIXES
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import SOURCE_ERRORS, ArgumentError, UnreadableFileError
from napari_patchset.exporting.plans.image_refs import (
    ANNOTATIONS,
    AnnotationsRef,
    ImageRef,
    SourceRef,
)
from napari_patchset.patchset.layout import LABELS, PARTIAL_SUFFIX, SUFFIXES
from napari_patchset.source import SceneId, is_remote, local_path, natural_key, split_source
from napari_patchset.stacks.opening import IMAGE_SUFFIXES, find_format, list_files, scene_ids
from napari_patchset.stacks.sequence import SequenceAxis
from napari_patchset.stacks.zarr.store import is_zarr

_MAX_STEPS = 100
"""Largest number of steps reported for one pass over the files."""


def expand_sources(
    paths: Sequence[str | Path],
    scene: SceneId | Literal["all"] = "all",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[SourceRef]:
    """Return a source for every scene of some files, or for one scene of each.

    Files of one set are one file, whichever of them are named and in whatever order.

    Parameters
    ----------
    paths : sequence of str or Path
        "name.czi@3" is one scene. A folder stands for the images in it.
    scene : int, str or "all"
        The id of a scene, for all files that do not name one.
    progress : callable
        Called with the number of paths that are done, and of all, about a hundred times at most.

    Raises
    ------
    ArgumentError
        If a file has no such scene, or a folder no image.

    Warns
    -----
    UserWarning
        If a file is named twice, even through a link.
    """
    expansion = _Expansion(scene)
    for done, path in enumerate(paths):
        if len(paths) > 1 and done % -(-len(paths) // _MAX_STEPS) == 0:
            progress(done, len(paths))
        expansion.add(path)
    return list(expansion.sources)


def sequence_source(
    paths: Sequence[str | Path], axis: SequenceAxis, scene: SceneId | None = None
) -> SourceRef:
    """Return the source that files are along an axis, in the natural order of their names.

    A folder stands for the images in it; `scene` is the id in each of them, None for the only one.
    """
    files = [str(file) for path in paths for file in _files_at(path)]
    files.sort(key=natural_key)
    return SourceRef(path=files[0], scene=scene, sequence=axis, files=tuple(files))


class _Expansion:
    """Scenes of files, each listed once."""

    def __init__(self, scene: SceneId | Literal["all"]) -> None:
        self.sources: dict[SourceRef, None] = {}
        self._scene = scene
        self._handles: dict[str, str] = {}
        """The first named file of a set, by the real path of each of its files."""
        self._ids: dict[str, list[SceneId | None]] = {}
        self._sets: set[str] = set()
        self._named: set[str] = set()

    def add(self, path: str | Path) -> None:
        file, scene = split_source(path, None if self._scene == "all" else self._scene)
        for each in _files_at(file):
            self._add(each, scene)

    def _add(self, file: Path | str, scene: SceneId | None) -> None:
        handle = self._handle(file)
        try:
            ids = self._scene_ids(handle) if scene is None else scene_ids(handle, scene)
        except SOURCE_ERRORS:  # the export reports it, and continues with the others
            ids = [scene]
        refs = [SourceRef(path=handle, scene=scene_id) for scene_id in ids]
        real = _real_path(file)
        if real in self._named and all(ref in self.sources for ref in refs):
            warnings.warn(f"{file} is named twice; its patches are cut once.", stacklevel=4)
        self._named.add(real)
        self.sources.update(dict.fromkeys(refs))

    def _handle(self, file: Path | str) -> str:
        """Return the file by which a set is named: the first of its files."""
        real = _real_path(file)
        if real not in self._handles:
            try:
                members = list_files(file)
            except SOURCE_ERRORS:
                members = ()
            for each in (real, *map(_real_path, members)):
                self._handles.setdefault(each, str(file))
            if len(members) > 1:
                self._sets.add(str(file))
        return self._handles[real]

    def _scene_ids(self, handle: str) -> list[SceneId | None]:
        """Return the scenes of a file, those of a set in one order whichever file names it."""
        if handle not in self._ids:
            ids = scene_ids(handle)
            if handle in self._sets:
                ids.sort(key=lambda scene: natural_key(str(scene)))
            self._ids[handle] = ids
        return self._ids[handle]


def _real_path(path: str | Path) -> str:
    return str(path) if is_remote(path) else os.path.realpath(local_path(str(path)))


def is_folder(path: str | Path) -> bool:
    """Return whether a path is a folder of files, and not itself an image."""
    return not is_remote(path) and Path(path).is_dir() and not is_zarr(Path(path))


def _files_at(path: str | Path) -> Sequence[str | Path]:
    """Return the images in a folder; every other path unchanged."""
    return images_in(Path(path)) if is_folder(path) else [path]


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, patch sets excluded, by name; ArgumentError if none is.

    A file that can't be opened, such as a link to nothing, is one if its name is that of an image.
    """
    images = []
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith(".") or path.name.endswith((*SUFFIXES, PARTIAL_SUFFIX)):
            continue
        try:
            find_format(path)
        except UnreadableFileError:  # of no format
            continue
        except OSError:  # reported when it is read, as that of a file which is named itself
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
        images.append(path)
    if not images:
        raise ArgumentError(f"{folder}: there is no image in this folder; name one, or another.")
    return images


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
    """Return the annotations of a source in a folder, else the path itself."""
    if not is_folder(folder := Path(local_path(path))):
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
        raise ArgumentError(
            "--labels annotations makes labels of the classes of --annotations; add that option."
        )
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
    if is_folder(path):
        raise ArgumentError(
            f"--{role} is {path}, a folder that has no file {same_name.name} for {file}; the names "
            "must be the same."
        )
    return path
