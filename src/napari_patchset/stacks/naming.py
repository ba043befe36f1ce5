"""How a scene is written into a file name: "name.czi@3"."""

import re
from pathlib import Path
from typing import TypeVar

from napari_patchset.errors import ArgumentError
from napari_patchset.source import SceneId

Scene = TypeVar("Scene", bound=SceneId)


def split_scene(path: str | Path, scene: Scene | None) -> tuple[Path, Scene | int | None]:
    """Split "name.czi@3" into path and scene, unless a file has that whole name.

    Raises
    ------
    ArgumentError
        If the scene is given in the name and as an argument.
    """
    path = Path(path)
    found = re.fullmatch(r"(.+)@(\d+)", path.name, re.DOTALL)
    if found is None or path.exists():
        return path, scene
    if scene is not None:
        raise ArgumentError(
            f"The scene is given in the file name ({path.name}) and as an argument ({scene}); "
            "give it once."
        )
    return path.with_name(found[1]), int(found[2])


def join_scene(path: Path, scene: SceneId | None) -> Path:
    """Write path and scene as one name, "name.czi@3", which `split_scene` takes apart."""
    return path if scene is None else path.with_name(f"{path.name}@{scene}")
