"""Write the sample file, on first use."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from napari_patchset.sample.cells import sample_plane
from napari_patchset.sample.contents import (
    CHANNELS,
    DEPTHS,
    PIXEL_SIZE_M,
    PLANE_DISTANCE_M,
    SCENES,
    TILE,
    TIMES,
    Channel,
)

_COMPRESSION = "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack"


def sample_path() -> Path:
    """Return where this user's copy of the sample lies, written already or not."""
    return user_cache_path("napari-patchset") / "cells-v1.czi"


def ensure_sample(
    path: Path | None = None, say: Callable[[str], object] = lambda text: None
) -> Path:
    """Return the path of the sample (`sample_path()` by default), written first if it isn't there.

    The file appears under its name only when it is whole; several processes may ask at once.
    OSError or RuntimeError if it can't be written. That it is written, `say` is told.
    """
    path = sample_path() if path is None else path
    if not path.exists():
        say(f"drawing the sample, {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path)
    return path


def _write_whole(path: Path) -> None:
    draft = path.with_name(f".{path.stem}-{uuid4().hex}.czi")
    try:
        write_sample(draft)
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except PermissionError:
        # Windows lets nobody replace a file that another process, quicker than us, has open.
        if not path.exists():
            raise
    finally:
        draft.unlink(missing_ok=True)


def write_sample(path: Path) -> None:
    """Write the sample to `path`, over what is there: a CZI of 3 scenes, 3 T, 5 Z and 2 C.

    Mosaics of uint16 tiles, zstd, about 32 MB. OSError or RuntimeError if it can't be written.
    """
    from pylibCZIrw import czi

    planes = list(product(range(len(SCENES)), range(TIMES), range(DEPTHS), range(len(CHANNELS))))
    with (
        czi.create_czi(str(path), exist_ok=True, compression_options=_COMPRESSION) as file,
        ThreadPoolExecutor() as pool,
    ):
        drawn = pool.map(lambda plane: sample_plane(*plane), planes)
        for plane, pixels in zip(planes, drawn, strict=True):
            _write_plane(file, plane, pixels)
        _write_metadata(file)
    _name_scenes(path)


def _write_plane(file: Any, plane: tuple[int, ...], pixels: NDArray[np.uint16]) -> None:
    scene, t, z, c = plane
    for y, x in product(*(range(0, length, TILE) for length in pixels.shape)):
        corner = (SCENES[scene].x + x, SCENES[scene].y + y)
        tile = pixels[y : y + TILE, x : x + TILE]
        file.write(tile, corner, {"T": t, "Z": z, "C": c}, scene=scene)


def _write_metadata(file: Any) -> None:
    from pylibCZIrw import czi

    def display(channel: Channel) -> Any:
        color = czi.Rgb8Color(*map(np.uint8, channel.color))
        limits = (channel.black / 65535, channel.white / 65535)
        return czi.ChannelDisplaySettingsDataClass(True, czi.TintingMode.Color, color, *limits)

    file.write_metadata(
        "napari-patchset sample",
        dict(enumerate(channel.name for channel in CHANNELS)),
        # Metres, though pylibCZIrw documents micrometres: the numbers go into the XML as they are.
        *(PIXEL_SIZE_M, PIXEL_SIZE_M, PLANE_DISTANCE_M),
        display_settings=dict(enumerate(map(display, CHANNELS))),
    )


def _name_scenes(path: Path) -> None:
    """Add to the XML what pylibCZIrw has no argument for: names, and centres on the stage in um."""
    from pylibCZIrw import czi

    um = PIXEL_SIZE_M * 1e6
    scenes = "".join(
        f'<Scene Index="{index}" Name="{scene.name}"><CenterPosition>'
        f"{(scene.x + scene.width / 2) * um:.3f},{(scene.y + scene.height / 2) * um:.3f}"
        "</CenterPosition></Scene>"
        for index, scene in enumerate(SCENES)
    )
    end = "</Dimensions>"
    with czi.edit_czi(str(path)) as editor, editor.edit_session() as metadata:
        xml = metadata.get_xml()
        metadata.set_xml(xml.replace(end, f"<S><Scenes>{scenes}</Scenes></S>{end}", 1))
