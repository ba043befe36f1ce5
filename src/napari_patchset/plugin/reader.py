"""The npe2 reader: a path in, layer tuples out; it touches no viewer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info

from napari_patchset.patchset.layout import SUFFIXES
from napari_patchset.plugin.asked import is_window_at_work
from napari_patchset.plugin.asking import MENDABLE, message
from napari_patchset.plugin.layers import LayerTuple, scene_layers
from napari_patchset.plugin.patch_layers import patch_set_layers
from napari_patchset.source import SceneId
from napari_patchset.stacks.naming import split_scene
from napari_patchset.stacks.opening import FORMATS, list_scenes
from napari_patchset.stacks.zarr.opening import is_zarr

Reader = Callable[[str | list[str]], list[LayerTuple]]

NO_LAYERS: list[Any] = [(None,)]
"""By which a reader tells napari that it did its work, and that nothing is to be shown."""


def get_reader(path: str | list[str]) -> Reader | None:
    """Give the reader for a path, None for what is not ours: several paths, another suffix.

    A folder may have any name: a file of zarr's in it says what it is.
    """
    if isinstance(path, list):
        return None
    name = Path(path).name.lower()
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    if name.endswith(SUFFIXES) or Path(split_scene(path, None)[0]).suffix.lower() in suffixes:
        return read_layers
    return read_layers if is_zarr(Path(path), b"") else None


def read_layers(path: str | list[str]) -> list[LayerTuple]:
    """Open a file's first scene, or a patch set, and say where the other scenes are.

    What can't be opened is raised; in the window, where no other reader could open it, it is
    said in one notification.
    """
    file, scene = split_scene(path if isinstance(path, str) else path[0], None)
    try:
        return _layers(file, scene)
    except MENDABLE as error:
        if not (is_window_at_work() and _is_only_ours(file)):
            raise
        show_error(message(error))
        return NO_LAYERS


def _layers(file: Path, scene: SceneId | None) -> list[LayerTuple]:
    if file.name.endswith(SUFFIXES):
        return patch_set_layers(file)
    return scene_layers(file, _first_scene(file) if scene is None else scene)


def _is_only_ours(file: Path) -> bool:
    return file.suffix.lower() == ".czi" or file.name.endswith(SUFFIXES)


def _first_scene(file: Path) -> SceneId | None:
    first, *others = list_scenes(file)
    if others:
        show_info(
            f"{file.name} has {1 + len(others)} scenes; this is {first.name}. "
            "Choose another one in Plugins > Patches."
        )
    return first.id
