"""The npe2 reader: a path in, layer tuples out; it touches no viewer."""

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_info

from napari_patchset.patchset.layout import SUFFIXES
from napari_patchset.plugin.layers import LayerTuple, scene_layers
from napari_patchset.plugin.patch_layers import patch_set_layers
from napari_patchset.source import SceneId
from napari_patchset.stacks.naming import split_scene
from napari_patchset.stacks.opening import FORMATS, list_scenes

Reader = Callable[[str | list[str]], list[LayerTuple]]


def get_reader(path: str | list[str]) -> Reader | None:
    """Give the reader for a path, None for what is not ours: several paths, another suffix."""
    if isinstance(path, list):
        return None
    name = Path(path).name.lower()
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    if name.endswith(SUFFIXES) or Path(split_scene(path, None)[0]).suffix.lower() in suffixes:
        return read_layers
    return None


def read_layers(path: str | list[str]) -> list[LayerTuple]:
    """Open a file's first scene, or a patch set, and say where the other scenes are."""
    file, scene = split_scene(path if isinstance(path, str) else path[0], None)
    if file.name.endswith(SUFFIXES):
        return patch_set_layers(file)
    if scene is None:
        return scene_layers(file, _first_scene(file))
    return scene_layers(file, scene)


def _first_scene(file: Path) -> SceneId | None:
    first, *others = list_scenes(file)
    if others:
        show_info(
            f"{file.name} has {1 + len(others)} scenes; this is {first.name}. "
            "Choose another one in Plugins > Patches."
        )
    return first.id
