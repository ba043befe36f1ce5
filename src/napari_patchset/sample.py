"""The sample file: a CZI of cells in several scenes, drawn here and written on first use.

Pixels come from the raw words of a counter-based generator through element-wise arithmetic that
IEEE 754 rounds exactly (no exp, sin or FFT), so they are the same on every machine and NumPy.
`ensure_sample` writes the file, `sample_plane` draws one plane of it.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path


class SampleScene(NamedTuple):
    """A scene: its position on the stage, and the radius and elongation of nuclei, in pixels."""

    name: str
    x: int
    y: int
    width: int
    height: int
    radius: float
    stretch: float


class SampleChannel(NamedTuple):
    """A channel and its display: an RGB colour, black and white in counts."""

    name: str
    color: tuple[int, int, int]
    black: int
    white: int


SCENES = (
    SampleScene("Monolayer", -1280, -420, 704, 576, radius=18, stretch=1.0),
    SampleScene("Giant cells", 260, -900, 576, 576, radius=28, stretch=1.0),
    SampleScene("Spindle cells", -90, 560, 832, 480, radius=16, stretch=1.5),
)
CHANNELS = (
    SampleChannel("DAPI", (0, 110, 255), black=112, white=680),
    SampleChannel("EGFP", (0, 255, 80), black=116, white=580),
)
TIMES, DEPTHS, TILE = 3, 5, 320
PIXEL_SIZE_M, PLANE_DISTANCE_M = 0.325e-6, 1e-6

_COMPRESSION = "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack"
_SEED = 0x5CE11
_OFFSET, _READ_NOISE, _COUNTS_PER_ELECTRON = 100, 3, 0.5

_Image = NDArray[np.floating[Any]]


def sample_plane(scene: int, t: int, z: int, c: int) -> NDArray[np.uint16]:
    """Return one plane of the sample as YX counts, the pixels that `write_sample` writes.

    All indices start at 0; IndexError if there is no such scene.
    """
    spec = SCENES[scene]
    light = np.full((spec.height, spec.width), 14 + 6 * c, np.float32)
    for cell in _cells(scene):
        _add_cell(light, cell, t, min(abs(z - cell.z), 2), c)
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in light.shape)
    light *= 1.05 - 0.22 * (y[:, None] + 0.2) ** 2 - 0.25 * (x - 0.25) ** 2
    # The dye of the cytoplasm bleaches.
    light *= 1 - 0.08 * t * c
    return _camera(light, _key(1 + scene, t, z, c))


def _camera(light: _Image, key: int) -> NDArray[np.uint16]:
    """Turn light, in counts, into counts with shot noise, read noise and the camera's offset."""
    words = np.random.Philox(key=key).random_raw((light.size + 3) // 4 * 2).reshape(2, -1)
    # The sum of four bytes is close to a normal deviate, and several times faster.
    low = np.uint64(0x00FF00FF00FF00FF)
    pairs = (words & low) + (words >> np.uint64(8) & low)
    sums = (pairs[0] + pairs[1]).view(np.uint16)[: light.size].reshape(light.shape)
    noise = (sums.astype(np.float32) - 510) / 147.8
    noise *= np.sqrt(light * _COUNTS_PER_ELECTRON + _READ_NOISE**2)
    counts: NDArray[np.uint16] = np.rint(light + noise + _OFFSET).astype(np.uint16)
    return counts


def _key(*parts: int) -> int:
    key = _SEED
    for part in parts:
        key = key << 16 | part
    return key


def _uniform(rows: int, columns: int, key: int) -> _Image:
    words = np.random.Philox(key=key).random_raw(rows * columns).reshape(rows, columns)
    uniform: _Image = (words >> np.uint64(11)) * 2.0**-53
    return uniform


class _Cell(NamedTuple):
    """One cell: lengths in pixels, z in planes, drift per time point, texture window's corner."""

    y: float
    x: float
    z: float
    drift: tuple[float, float]
    radius: float
    stretch: float
    axis: tuple[float, float]
    dna: float
    gfp: float
    dividing: bool
    window: tuple[int, int]


@cache
def _cells(scene: int) -> tuple[_Cell, ...]:
    """Return a scene's cells, on a jittered lattice with holes."""
    spec = SCENES[scene]
    step = 3.9 * spec.radius
    rows, columns = int(spec.height / step) + 2, int(spec.width / step / spec.stretch) + 2
    draws = _uniform(rows * columns, 13, _key(0, scene)).tolist()
    nodes = zip(product(range(rows), range(columns)), draws, strict=True)
    return tuple(_cell(spec, step, *node, draw) for node, draw in nodes if draw[12] < 0.86)


def _cell(spec: SampleScene, step: float, row: int, column: int, draw: list[float]) -> _Cell:
    ay, ax = draw[5] - 0.5, draw[6] - 0.5 + (spec.stretch - 1) * 2
    length = sqrt(ay * ay + ax * ax) + 1e-9
    dividing = draw[9] < 0.04
    return _Cell(
        y=step * (row + 0.62 * (draw[0] - 0.5)),
        x=step * spec.stretch * (column + row % 2 / 2 + 0.62 * (draw[1] - 0.5)),
        z=1 + 2 * draw[2],
        drift=(8 * (draw[3] - 0.5), 8 * (draw[4] - 0.5)),
        radius=spec.radius * (0.8 + 0.4 * draw[7]),
        stretch=1.0 if dividing else spec.stretch * (1.05 + 0.35 * draw[8]),
        axis=(ay / length, ax / length),
        dna=1.7 if dividing else 0.6 + 0.5 * draw[10],
        gfp=0.35 + 0.75 * draw[11] * draw[11],
        dividing=dividing,
        window=(int(draw[10] * 4096) % 192, int(draw[11] * 4096) % 192),
    )


def _add_cell(light: _Image, cell: _Cell, t: int, blur: float, c: int) -> None:
    """Add a cell's light in channel `c` to a plane `blur` planes away, where the two overlap."""
    paint, extent = ((_nucleus, 2.1), (_cytoplasm, 3.3))[c]
    reach = min(int(cell.radius * cell.stretch * extent), 160)
    here, offsets, window = [], [], []
    for axis, centre in enumerate((cell.y + t * cell.drift[0], cell.x + t * cell.drift[1])):
        first = int(centre // 1) - reach
        start, stop = (min(max(n, 0), light.shape[axis]) for n in (first, first + 2 * reach))
        here.append(slice(start, stop))
        offsets.append((np.arange(start, stop) - centre).astype(np.float32))
        window.append(slice(*(cell.window[axis] - first + n for n in (start, stop))))
    texture = _texture()[:, *window]
    light[*here] += paint(cell, offsets[0][:, None], offsets[1], texture, blur)


def _nucleus(cell: _Cell, y: _Image, x: _Image, texture: _Image, blur: float) -> _Image:
    fine, coarse, lobes = texture
    focus = 1 / (1 + blur * blur)
    chromatin = 0.75 + focus * (0.35 * fine + 0.5 * np.maximum(fine - 0.25, 0)) + 0.25 * coarse
    for nucleolus in () if cell.dividing else (-0.38, 0.36):
        chromatin *= 1 - 0.6 * focus * _spot(cell, y, x, nucleolus)
    rim = _distance(cell, y, x, 0.36 if cell.dividing else 1) + 0.15 * lobes
    inside = _inside(rim, (0.1 + 0.3 * blur) * (1.3 if cell.dividing else 1))
    light: _Image = 420 * cell.dna * (0.3 + 0.7 * focus) * inside * chromatin
    return light


def _cytoplasm(cell: _Cell, y: _Image, x: _Image, texture: _Image, blur: float) -> _Image:
    fine, coarse, lobes = texture
    focus = 1 / (1 + blur * blur)
    nucleus = _distance(cell, y, x, 1)
    grain = 1 + focus * (0.5 * fine + 2.2 * np.maximum(fine - 0.35, 0)) + 0.4 * coarse
    near = 0.36 * nucleus * nucleus
    glow = (0.3 + 0.7 / (1 + near * near)) * grain
    glow += 0.55 / (1 + ((nucleus - 1.12) * (7 - 3 * min(blur, 1.5))) ** 2)
    if not cell.dividing:
        glow *= 1 - (0.35 + 0.4 * focus) * _inside(nucleus, 0.15 + 0.3 * blur)
    body = _distance(cell, y, x, 0.92) / 2.2 * (1 + 0.1 * coarse + 0.5 * lobes)
    # Lobes may not reach the edge of the window that the cell is drawn in.
    inside = _inside(np.maximum(body, nucleus - 1.66), 0.18 + 0.18 * blur)
    light: _Image = 360 * cell.gfp * (0.35 + 0.65 * focus) * inside * glow
    return light


def _distance(cell: _Cell, y: _Image, x: _Image, width: float) -> _Image:
    """Return the elliptic distance from a cell's centre: 1 on the rim of its nucleus."""
    ay, ax = cell.axis
    along = (y * ay + x * ax) / (cell.radius * cell.stretch)
    across = (x * ay - y * ax) / (cell.radius * width)
    distance: _Image = np.sqrt(along * along + across * across)
    return distance


def _spot(cell: _Cell, y: _Image, x: _Image, along: float) -> _Image:
    ay, ax = (along * cell.radius * cell.stretch * part for part in cell.axis)
    near = ((y - ay) ** 2 + (x - ax) ** 2) / (0.2 * cell.radius) ** 2
    return 1 / (1 + near * near)


def _inside(distance: _Image, softness: float) -> _Image:
    share = np.clip((1 - distance) / (2 * softness) + 0.5, 0, 1)
    inside: _Image = share * share * (3 - 2 * share)
    return inside


@cache
def _texture() -> _Image:
    """Return fine, coarse and very coarse noise, each between -1 and 1."""
    levels = [_uniform(512, 512, _key(0, len(SCENES)))]
    for step in (1, 1, 2, 4, 8, 16, 16):
        levels.append(_smooth(_smooth(levels[-1], 0, step), 1, step))
    bands = np.stack([levels[i] - levels[j] for i, j in ((2, 4), (4, 5), (5, 7))])
    bands /= np.abs(bands).max(axis=(1, 2), keepdims=True)
    return bands.astype(np.float32)


def _smooth(image: _Image, axis: int, step: int) -> _Image:
    smooth: _Image = (np.roll(image, step, axis) + 2 * image + np.roll(image, -step, axis)) / 4
    return smooth


def sample_path() -> Path:
    """Return the path of this user's copy of the sample, whether it is written or not."""
    return user_cache_path("napari-patchset") / "cells-v1.czi"


def ensure_sample(
    path: Path | None = None, report: Callable[[str], object] = lambda text: None
) -> Path:
    """Return the path of the sample (`sample_path()` by default), writing it if it is missing.

    The file appears under its name only when it is complete; several processes may call this at
    once. OSError or RuntimeError if it can't be written.

    Parameters
    ----------
    report : callable
        Called with a line of text before the file is written.
    """
    path = sample_path() if path is None else path
    if not path.exists():
        report(f"drawing the sample, {path}")
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
        # On Windows a file that a faster process has written and opened can't be replaced.
        if not path.exists():
            raise
    finally:
        draft.unlink(missing_ok=True)


def write_sample(path: Path) -> None:
    """Write the sample to `path`, replacing any file: a CZI of 3 scenes, 3 T, 5 Z and 2 C.

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

    def display(channel: SampleChannel) -> Any:
        color = czi.Rgb8Color(*map(np.uint8, channel.color))
        limits = (channel.black / 65535, channel.white / 65535)
        return czi.ChannelDisplaySettingsDataClass(True, czi.TintingMode.Color, color, *limits)

    file.write_metadata(
        "napari-patchset sample",
        dict(enumerate(channel.name for channel in CHANNELS)),
        # Metres, though pylibCZIrw documents micrometres: the numbers go unchanged into the XML.
        *(PIXEL_SIZE_M, PIXEL_SIZE_M, PLANE_DISTANCE_M),
        display_settings=dict(enumerate(map(display, CHANNELS))),
    )


def _name_scenes(path: Path) -> None:
    """Add the names and stage centres (um), which pylibCZIrw has no argument for, to the XML."""
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
