"""Small pictures of the scenes, read in the background; a damaged scene is told, not raised."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.plugin.window.asking import message
from napari_patchset.preview import composite, overview
from napari_patchset.source import SceneId
from napari_patchset.stacks.describe import image_metadata
from napari_patchset.stacks.opening import open_stack

THUMBNAIL = 256
"""Pixels along the longer side of a thumbnail, about."""


class Thumbnail(NamedTuple):
    """The picture of the scene in a row of the list, RGB, YXC, or why there is none."""

    row: int
    picture: NDArray[np.uint8] | None
    problem: str = ""


def thumbnails(path: Path, scenes: Sequence[SceneId | None]) -> Generator[Thumbnail, None, str]:
    """Give a picture of the middle plane of each scene, one after the other.

    Returns
    -------
    str
        What is wrong with the scenes that have none, "" if all have one.
    """
    problems = []
    for index, scene in enumerate(scenes):
        # A generator that is given up waits at a yield, with no file open.
        try:
            picture = _picture(path, scene)
        except Exception as error:  # whatever it is, a person is told, and the others go on
            problems.append(message(error) or type(error).__name__)
            yield Thumbnail(index, None, problems[-1])
        else:
            yield Thumbnail(index, picture)
    return _summary(path, problems)


def _picture(path: Path, scene: SceneId | None) -> NDArray[np.uint8]:
    with open_stack(path, scene) as stack:
        planes, _ = overview(stack, stack.data_shape[0] // 2, longest=THUMBNAIL)
        return composite(_thinned(planes), image_metadata(stack).channels)


def _thinned(planes: NDArray[np.generic]) -> NDArray[np.generic]:
    """Leave pixels out where the coarsest level is still larger than a thumbnail."""
    step = max(1, max(planes.shape[-2:]) // THUMBNAIL)
    return planes[:, ::step, ::step]


def _summary(path: Path, problems: Sequence[str]) -> str:
    if not problems:
        return ""
    scenes = "A scene" if len(problems) == 1 else f"{len(problems)} scenes"
    has = "has" if len(problems) == 1 else "have"
    return f"{scenes} of {path.name} {has} no thumbnail: {problems[0]}"
