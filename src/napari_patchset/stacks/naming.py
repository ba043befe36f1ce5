"""What names an image: a path or a URL, and a scene in it: "name.czi@3"."""

import re
from pathlib import Path
from typing import TypeVar
from urllib.request import url2pathname

from napari_patchset.errors import ArgumentError
from napari_patchset.source import SceneId

FILE = "file://"
"""What the URL of a local file begins with."""

Scene = TypeVar("Scene", bound=SceneId)


def is_remote(path: str | Path) -> bool:
    """Whether a path is the URL of a store, "https://..." or "s3://..."."""
    return isinstance(path, str) and "://" in path and not path.startswith(FILE)


def plain_path(name: str) -> str:
    """Give the path of a local file that is named by a URL; every other name stays as it is."""
    return url2pathname(name.removeprefix(FILE)) if name.startswith(FILE) else name


def split_source(
    name: str | Path, scene: Scene | None = None
) -> tuple[str | Path, Scene | int | None]:
    """Split what a user names, as `split_scene` does; a URL has no scene in it."""
    if isinstance(name, Path):
        return split_scene(name, scene)
    return (name, scene) if is_remote(name) else split_scene(plain_path(name), scene)


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
