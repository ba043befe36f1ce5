"""Files as sources: each scene of each file, a folder's images, files that follow each other."""

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.exporting.failures import SOURCE_ERRORS
from napari_patchset.exporting.image_refs import SourceRef
from napari_patchset.patchset.layout import PARTIAL_SUFFIX, SUFFIXES
from napari_patchset.source import SceneId, is_remote, local_path, natural_key, split_source
from napari_patchset.stacks.opening import find_format, list_files, scene_ids
from napari_patchset.stacks.sequence import SequenceAxis
from napari_patchset.stacks.zarr.store import is_zarr

_MAX_STEPS = 100
"""Most steps that are reported of one pass over the files."""


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
        Called with the number of paths that are done, and of all, at most some hundred times.

    Raises
    ------
    ArgumentError
        If a file has no such scene, or a folder no image.

    Warns
    -----
    UserWarning
        If a file is named twice, be it by a link.
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

    Parameters
    ----------
    paths : sequence of str or Path
        A folder stands for the images in it.
    axis : {"T", "Z", "C"}
        The axis.
    scene : int, str or None
        The id of a scene, in each of them; None for the only one.
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


def _files_at(path: str | Path) -> Sequence[str | Path]:
    """Return the images in a folder; every other path unchanged."""
    is_folder = not is_remote(path) and Path(path).is_dir() and not is_zarr(Path(path))
    return images_in(Path(path)) if is_folder else [path]


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, patch sets excluded, by name; ArgumentError if none is."""
    images = []
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith(".") or path.name.endswith((*SUFFIXES, PARTIAL_SUFFIX)):
            continue
        with suppress(UnreadableFileError):  # of no format
            find_format(path)
            images.append(path)
    if not images:
        raise ArgumentError(f"{folder}: there is no image in this folder; name one, or another.")
    return images
